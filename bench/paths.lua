-- Asks for one path, or for numbered paths at random. Arguments: path, number of paths (0: the path itself).
-- Requests are built once, so that one path and many cost the load generator the same.
local requests, count = {}, 0

function init(args)
  local path, number = args[1], tonumber(args[2])
  if number == 0 then
    requests[1], count = wrk.format("GET", path), 1
  else
    for index = 1, number do
      requests[index] = wrk.format("GET", string.format("%s%05d/item", path, index))
    end
    count = number
  end
  math.randomseed(1)
end

function request()
  return requests[math.random(count)]
end
