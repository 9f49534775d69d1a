//! Log lines that anybody on the network can cause: a few in each second, then only their number.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);
/// Lines written in one window (own choice): a person sees what happens, a scan does not fill the disk.
const LINES: u32 = 10;

/// One kind of line.
#[derive(Debug, Default)]
pub struct LimitedLines {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    window: Option<Instant>,
    written: u32,
    held_back: u64,
}

impl LimitedLines {
    /// Call `line`, or count it. Its argument ends the line: how many were held back before it.
    pub fn write(&self, line: impl FnOnce(&str)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.window.is_none_or(|start| now.duration_since(start) >= WINDOW) {
            state.window = Some(now);
            state.written = 0;
        }
        if state.written >= LINES {
            state.held_back += 1;
            return;
        }
        state.written += 1;
        let more = match std::mem::take(&mut state.held_back) {
            0 => String::new(),
            count => format!(" ({count} more of such lines were left out)"),
        };
        drop(state);
        line(&more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_counted_instead_of_written() {
        let limit = LimitedLines::default();
        let mut lines = Vec::new();
        for _ in 0..1000 {
            limit.write(|more| lines.push(more.to_owned()));
        }
        assert!(lines.len() < 1000 && lines.iter().all(String::is_empty));
        let start = limit.state.lock().map(|mut state| state.window.take());
        assert!(start.is_ok());
        limit.write(|more| lines.push(more.to_owned()));
        assert!(lines.last().is_some_and(|line| line.contains("more of such lines")));
    }
}
