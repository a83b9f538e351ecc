-- Requests of as many accounts as are asked for, in turn.
function init(arguments)
  requests = {}
  for number = 1, tonumber(arguments[1]) do
    requests[number] = wrk.format(nil, nil, { ["X-Account"] = "account-" .. number })
  end
  at = 0
end

function request()
  at = at % #requests + 1
  return requests[at]
end
