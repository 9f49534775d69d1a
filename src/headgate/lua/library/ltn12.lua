-- ltn12: sources, sinks and filters, and the pump between them (Lua Technical Note 12).
local insert = table.insert
local M = { source = {}, sink = {}, filter = {}, pump = {}, BLOCKSIZE = 2048, _VERSION = "LTN12 1.0.3" }
local source, sink, filter, pump = M.source, M.sink, M.filter, M.pump

function source.empty() return function() return nil end end
function source.error(text) return function() return nil, text end end
function source.string(text)
  if not text then
    return source.empty()
  end
  local position = 1
  return function()
    local chunk = text:sub(position, position + M.BLOCKSIZE - 1)
    position = position + M.BLOCKSIZE
    if chunk ~= "" then
      return chunk
    end
    return nil
  end
end
function source.table(chunks)
  local position = 0
  return function()
    position = position + 1
    return chunks[position]
  end
end
function source.file(handle, fault)
  if not handle then
    return source.error(fault or "unable to open file")
  end
  return function()
    local chunk = handle:read(M.BLOCKSIZE)
    if not chunk then
      handle:close()
    end
    return chunk
  end
end
function source.simplify(complex)
  return function()
    local chunk, err_or_new = complex()
    complex = err_or_new or complex
    if not chunk then
      return nil, err_or_new
    end
    return chunk
  end
end
function source.cat(...)
  local sources = { ... }
  return function()
    while sources[1] do
      local chunk, err = sources[1]()
      if chunk or err then
        return chunk, err
      end
      table.remove(sources, 1)
    end
    return nil
  end
end
-- A filter gives "" when it needs more, and its last piece when it gets nil.
function source.chain(from, through)
  local is_over = false
  return function()
    while not is_over do
      local chunk, err = from()
      if err then
        return nil, err
      end
      is_over = chunk == nil
      local passed = through(chunk)
      if passed and passed ~= "" then
        return passed
      end
    end
    return nil
  end
end

function sink.null() return function() return 1 end end
function sink.error(text) return function() return nil, text end end
function sink.table(chunks)
  chunks = chunks or {}
  return function(chunk)
    if chunk then
      insert(chunks, chunk)
    end
    return 1
  end, chunks
end
function sink.file(handle, fault)
  if not handle then
    return sink.error(fault or "unable to open file")
  end
  return function(chunk)
    if not chunk then
      handle:close()
      return 1
    end
    return handle:write(chunk) and 1
  end
end
function sink.simplify(complex)
  return function(chunk, fault)
    local ok, err_or_new = complex(chunk, fault)
    if not ok then
      return nil, err_or_new
    end
    complex = err_or_new or complex
    return 1
  end
end
function sink.chain(through, to)
  return function(chunk, fault)
    if fault then
      return to(nil, fault)
    end
    local passed = through(chunk)
    if passed and passed ~= "" then
      local ok, err = to(passed)
      if not ok then
        return nil, err
      end
    end
    return chunk ~= nil and 1 or to(nil)
  end
end

function filter.cycle(low, context, extra)
  return function(chunk)
    local passed
    passed, context = low(context, chunk, extra)
    return passed
  end
end
function filter.chain(...)
  local filters = { ... }
  return function(chunk)
    local is_end = chunk == nil
    for _, one in ipairs(filters) do
      local last = is_end and one(nil) or nil
      if chunk and chunk ~= "" then
        chunk = (one(chunk) or "") .. (last or "")
      else
        chunk = last
      end
    end
    return chunk
  end
end

function pump.step(from, to)
  local chunk, err = from()
  local ok, fault = to(chunk, err)
  if chunk and ok then
    return 1
  end
  return nil, err or fault
end
function pump.all(from, to, step)
  step = step or pump.step
  while true do
    local ok, err = step(from, to)
    if not ok then
      if err then
        return nil, err
      end
      return 1
    end
  end
end

return M
