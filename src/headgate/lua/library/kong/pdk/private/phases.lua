-- kong.pdk.private.phases: the phases as bits, and whether a call belongs to the running one.
local PHASES = {
  init = 0x1, init_worker = 0x1, certificate = 0x2, client_hello = 0x8, rewrite = 0x10, access = 0x20, balancer = 0x40,
  response = 0x80, header_filter = 0x200, body_filter = 0x400, timer = 0x1000, log = 0x2000, preread = 0x4000,
  error = 0x1000000, admin_api = 0x10000000,
}

local function name_of(number)
  for name, bits in pairs(PHASES) do
    if bits == number then
      return name
    end
  end
  return tostring(number)
end

-- Raises unless the running phase is among those of a mask.
local function check(accepted)
  local phase = ngx.get_phase()
  local bits = PHASES[phase]
  if bits == nil or bit.band(bits, accepted) == 0 then
    local names = {}
    for name, one in pairs(PHASES) do
      if bit.band(one, accepted) ~= 0 then
        names[#names + 1] = name
      end
    end
    table.sort(names)
    error("function cannot be called in " .. phase .. " phase (only in: " .. table.concat(names, ", ") .. ")", 3)
  end
end

return {
  phases = PHASES, check = check, check_not = function(name, rejected)
    if bit.band(PHASES[ngx.get_phase()] or 0, rejected) ~= 0 then
      error(name .. " cannot be called in " .. ngx.get_phase() .. " phase", 3)
    end
  end,
  new = function(...)
    local bits = {}
    for i = 1, select("#", ...) do
      bits[i] = (select(i, ...))
    end
    return bit.bor(unpack(bits))
  end,
  get_current_phase = function() return name_of(PHASES[ngx.get_phase()]) end,
  public_phases = PHASES,
}
