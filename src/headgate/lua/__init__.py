"""Lua in the gateway: one LuaJIT per process, plugins and functions written in Lua, what they may call.

`vm` is the machine, `values` what crosses its border, `bridge` how a Python function becomes a Lua one, `handler` how a
Lua table becomes a handler behind the runner's protocol. `library/` holds what `require` finds besides the plugins'
own modules. Nothing here decides about requests; the runner does not know this package.
"""
