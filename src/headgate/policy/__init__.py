"""What runs for a request: which plugins exist, which of their instances apply, in what order, and running them.

`catalog` finds plugin code; `precedence` picks one instance per plugin name; `chain` orders and caches the picks;
`compile` turns a snapshot into a plan for the engine; `runner` is what the engine calls. No plugin is known by name
here.
"""
