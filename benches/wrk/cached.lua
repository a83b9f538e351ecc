-- Asks for one of so many answers, at random.
function init(arguments)
  keys = tonumber(arguments[1]) or 1
  math.randomseed(1)
end

function request()
  return wrk.format("GET", "/small/" .. math.random(0, keys - 1))
end
