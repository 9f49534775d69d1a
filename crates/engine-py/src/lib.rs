//! The engine as a Python module: `headgate._engine`.
//!
//! All PyO3 of the project is in this crate, and nothing is decided here: `runner.rs` carries phases over to Python,
//! `exchange.rs` shows a request, `engine.rs` starts and stops, `lua.rs` is what Lua
//! calls by itself. The contract is `src/headgate/_engine.pyi`.

use headgate_engine::error::TEXTS;
use headgate_engine::phase::Phase;
use pyo3::prelude::*;
use pyo3::types::PyDict;

mod convert;
mod engine;
mod exchange;
mod explain;
mod handshake;
mod headers;
mod health;
mod logging;
mod lua;
mod need_body;
mod record;
mod resolve;
mod runner;
mod websocket;

#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let phases = PyDict::new(py);
    for phase in Phase::ALL {
        phases.set_item(phase.name(), phase.bit())?;
    }
    module.add("PHASES", phases)?;
    let texts = PyDict::new(py);
    for (status, text) in TEXTS {
        texts.set_item(status, text)?;
    }
    module.add("ERROR_MESSAGES", texts)?;
    module.add("LUA_FUNCTIONS", lua::table(py)?)?;
    module.add("PlanError", py.get_type::<engine::PlanError>())?;
    module.add_function(wrap_pyfunction!(explain::explain_route, module)?)?;
    module.add_function(wrap_pyfunction!(explain::explain_stream, module)?)?;
    module.add_function(wrap_pyfunction!(explain::check_expression, module)?)?;
    module.add_class::<exchange::PyExchange>()?;
    module.add_class::<handshake::PyHandshake>()?;
    module.add_class::<health::PyHealthMachine>()?;
    module.add_class::<need_body::NeedBody>()?;
    module.add_class::<engine::Engine>()?;
    Ok(())
}
