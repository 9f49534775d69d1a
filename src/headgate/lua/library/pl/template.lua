-- pl.template: texts with Lua in them: lines that start with `#` are code, `$(…)` is a value.
local load, concat, format, tostring, type, setmetatable, pcall = load, table.concat, string.format, tostring, type, setmetatable, pcall
local M = {}

local function literal(character) return (character:gsub("%p", "%%%0")) end

-- Returns code that puts the pieces of a text line by line.
local function code_of(text, escape, inline, brackets)
  local parts = { "local __put = ...\n" }
  local open, close = brackets:sub(1, 1), brackets:sub(2, 2)
  local value = literal(inline) .. "(%b" .. open .. close .. ")"
  for line, ending in text:gmatch("([^\n]*)(\n?)") do
    local code = line:match("^%s*" .. literal(escape) .. "(.*)$")
    if line == "" and ending == "" then
      break
    elseif code then
      parts[#parts + 1] = code .. "\n"
    else
      local at = 1
      while true do
        local first, last, expression = line:find(value, at)
        if not first then
          break
        end
        if first > at then
          parts[#parts + 1] = format("__put(%q) ", line:sub(at, first - 1))
        end
        parts[#parts + 1] = format("__put(%s) ", expression:sub(2, -2))
        at = last + 1
      end
      local rest = line:sub(at) .. ending
      if rest ~= "" then
        parts[#parts + 1] = format("__put(%q) ", rest)
      end
      parts[#parts + 1] = "\n"
    end
  end
  return concat(parts)
end

-- Returns a template with `render(env, parent)`; nil and a text for code that is none.
function M.compile(text, options)
  options = options or {}
  local code = code_of(text, options.escape or "#", options.inline_escape or "$", options.inline_brackets or "()")
  local name = options.chunk_name or "TMP"
  local checked, fault = load(code, name, "t", {})
  if not checked then
    return nil, fault, code
  end
  local template = { code = options.debug and code or nil }
  function template.render(_, env, parent)
    env = env or {}
    if parent ~= nil then
      local own = env
      env = setmetatable({}, { __index = function(_, key)
        local found = own[key]
        if found == nil then
          found = parent[key]
        end
        return found
      end })
    end
    local chunk = load(code, name, "t", env)
    local pieces = {}
    local ok, err = pcall(chunk, function(piece)
      if piece ~= nil then
        pieces[#pieces + 1] = type(piece) == "string" and piece or tostring(piece)
      end
    end)
    if not ok then
      return nil, err, code
    end
    return concat(pieces), nil, options.debug and code or nil
  end
  return template
end

function M.substitute(text, env)
  env = env or {}
  local template, err, code = M.compile(text, { chunk_name = rawget(env, "_chunk_name"),
    escape = rawget(env, "_escape"), inline_escape = rawget(env, "_inline_escape"),
    inline_brackets = rawget(env, "_brackets"), debug = rawget(env, "_debug") })
  if not template then
    return nil, err, code
  end
  return template:render(env, rawget(env, "_parent"))
end

return M
