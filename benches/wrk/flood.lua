-- Tokens as they come from whoever guesses: well-formed, signed with nonsense, no two the same. Nothing is
-- computed for a request but its number, so that a sender can hardly be cheaper.
local digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
local before, behind, at_once
local number = 0

local function guess()
    number = number + 1
    local rest, text = number, ''
    for _ = 1, 5 do
        local digit = rest % 64 + 1
        text = text .. digits:sub(digit, digit)
        rest = math.floor(rest / 64)
    end
    return before .. text .. behind
end

function init(arguments)
    before = 'GET / HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer ' .. arguments[1]
    behind = arguments[2] .. '\r\n\r\n'
    at_once = tonumber(arguments[3])
end

function request()
    local guesses = {}
    for index = 1, at_once do
        guesses[index] = guess()
    end
    return table.concat(guesses)
end
