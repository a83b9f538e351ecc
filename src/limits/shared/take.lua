-- Takes from the counts of one or several limits at once: all of them have what is needed, or none is taken
-- from. What is owed is counted in any case. Times are microseconds of this server's clock.
--
-- KEYS: one for each limit. ARGV: eleven numbers for each:
--   algorithm (0 fixed, 1 sliding, 2 bucket, 3 calendar), limit, window, burst
--     (calendar: the number of the period, and how long it lasts from now, in place of window and burst),
--   owed: spent already, counted even above the limit,
--   back, before: returned unspent, if it is not yet that late,
--   need: less is of no use (0: anything left will do, but take nothing for it; -1: count only),
--   urgent, want, share: given is what is urgent, or a share of what is left, but never more than is wanted.
-- Answers the time, and five numbers for each limit: what was taken, what is left, how long until more is
-- left, how long until the need would be met (0 if it is), and when this count ends. Where nothing is counted
-- nothing is written, so that refusals are only read. The clock may have been set back since a key was
-- written, or that was another server's: then the key's time stands still until the clock is there, but what
-- is more than a window ahead is not believed.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function numbers(text)
  local a, b, c = string.match(text or '', '^([^:]+):([^:]+):?([^:]*)$')
  return tonumber(a), tonumber(b), tonumber(c)
end

-- The key is dropped a second late: the server's idea of when it expires is not as fine as ours.
local function store(key, text, micros)
  redis.call('SET', key, text, 'PX', string.format('%.0f', math.ceil(micros / 1000) + 1000))
end

-- A window with an end, that the key's first request begins.
local function fixed(key, limit, length, back, owed)
  local ends, count = numbers(redis.call('GET', key))
  if not ends or now >= ends or ends > now + 2 * length or count == 0 then
    ends, count, back = now + length, 0, 0
  end
  count = math.max(0, count - back) + owed
  return {
    room = limit - count, reset = ends - now, ends = ends,
    wait = function() return ends - now end,
    take = function(taken)
      if owed + back + taken > 0 then
        store(key, string.format('%.0f:%.0f', ends, count + taken), ends - now)
      end
    end,
  }
end

-- A period of the calendar. The first gateway whose clock says so begins the next one, for all.
local function calendar(key, limit, number, rest, back, owed)
  local last, count = numbers(redis.call('GET', key))
  if not last or last < number then
    last, count, back = number, 0, 0
  end
  count = math.max(0, count - back) + owed
  return {
    room = limit - count, reset = rest, ends = now + rest,
    wait = function() return rest end,
    take = function(taken)
      if owed + back + taken > 0 then
        store(key, string.format('%.0f:%.0f', last, count + taken), rest + 60000000)
      end
    end,
  }
end

-- The last window's count fades while the current one grows.
local function sliding(key, limit, length, back, owed)
  local of, last, current = numbers(redis.call('GET', key))
  local index = math.floor(now / length)
  if not of or of < index - 1 or of > index + 1 then
    last, current, back = 0, 0, 0
  elseif of == index - 1 then
    last, current, back = current, 0, 0
  else
    index = of
  end
  local ends = (index + 1) * length
  local elapsed = math.max(now - index * length, 0)
  current = math.max(0, current - back) + owed
  local faded = last * (length - elapsed) / length
  return {
    room = limit - current - faded, reset = ends - now, ends = ends,
    wait = function(need)
      if current + need <= limit then
        local late = ends - length + elapsed - now
        return late + math.ceil((faded + current + need - limit) * length / last)
      end
      return ends - now + math.ceil(length * (current + need - limit) / current)
    end,
    take = function(taken)
      if owed + back + taken > 0 then
        local text = string.format('%.0f:%.0f:%.0f', index, last, current + taken)
        store(key, text, ends + length - now)
      end
    end,
  }
end

-- Tokens come back one by one. Whoever returns some has kept others from coming back while they were out,
-- at most as many as come in that time.
local function bucket(key, limit, length, burst, back, owed, before)
  local at, used = numbers(redis.call('GET', key))
  if not at or at > now + length then
    at, used, back = now, 0, 0
  end
  local late = math.max(at - now, 0)
  back = math.max(0, back - math.max(0, now + length - before) * limit / length)
  used = math.max(0, used - (now + late - at) * limit / length)
  used = math.max(0, used - back) + owed
  return {
    room = burst - used, ends = now + length,
    reset = late + math.ceil((used - math.ceil(used) + 1) * length / limit),
    wait = function(need) return late + math.ceil((used + need - burst) * length / limit) end,
    take = function(taken)
      if owed + back + taken > 0 then
        local text = string.format('%.0f:%.17g', now + late, used + taken)
        store(key, text, late + (used + taken) * length / limit)
      end
    end,
  }
end

local counts, is_met = {}, true
for number, key in ipairs(KEYS) do
  local at = (number - 1) * 11
  local function argument(offset) return tonumber(ARGV[at + offset]) end
  local algorithm, limit, length, burst = argument(1), argument(2), argument(3), argument(4)
  local owed, back, before, need = argument(5), argument(6), argument(7), argument(8)
  if now >= before then back = 0 end
  local count
  if algorithm == 0 then
    count = fixed(key, limit, length, back, owed)
  elseif algorithm == 1 then
    count = sliding(key, limit, length, back, owed)
  elseif algorithm == 2 then
    count = bucket(key, limit, length, burst, back, owed, before)
  else
    count = calendar(key, limit, length, burst, back, owed)
  end
  count.least = need < 0 and -math.huge or math.max(need, 1)
  count.is_met = count.room >= count.least
  is_met = is_met and count.is_met
  counts[number] = count
end

local answer = { string.format('%.0f', now) }
for number, count in ipairs(counts) do
  local at = (number - 1) * 11
  local need, urgent = tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9])
  local want, share = tonumber(ARGV[at + 10]), tonumber(ARGV[at + 11])
  local taken = 0
  if is_met and need >= 0 then
    local room = math.floor(count.room)
    taken = math.min(want, math.max(need, math.min(urgent, room), math.floor(room / share)))
  end
  count.take(taken)
  local wait = 0
  if not count.is_met then wait = math.max(1, count.wait(count.least)) end
  for _, value in ipairs({ taken, math.floor(count.room - taken), count.reset, wait, count.ends }) do
    table.insert(answer, string.format('%.0f', value))
  end
end
return answer
