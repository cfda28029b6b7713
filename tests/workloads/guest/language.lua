-- Tables, strings, patterns, coroutines, floats and integers.
local function sieve(limit)
  local composite, count, sum = {}, 0, 0
  for i = 2, limit do
    if not composite[i] then
      count, sum = count + 1, sum + i
      for j = i * i, limit, i do composite[j] = true end
    end
  end
  return count, sum
end
print(sieve(200000))

local words = {}
for i = 1, 5000 do words[i] = string.format("%05x", (i * 7919) % 65521) end
table.sort(words)
print(words[1], words[2500], words[5000], #table.concat(words, ","))
print((table.concat(words, " "):gsub("(%x)(%x+)", "%2%1")):sub(1, 60))
local hits = 0
for _ in table.concat(words, " "):gmatch("%d+a%x") do hits = hits + 1 end
print(hits)

local walk = coroutine.wrap(function() for i = 1, 20000 do coroutine.yield(i * i) end end)
local total = 0
for _ = 1, 20000 do total = total + walk() end
print(total, total // 7, total % 11, total / 3, 7 // 0.0, -7 % 3, 2 ^ 0.5, math.maxinteger + 1, 5 // 0.3)
print(string.format("%.17g %.17g %.17g %a", math.sin(1e5), math.exp(10.1), math.log(3), 0.1))
print(string.pack(">i4d<I8", -5, 1.5, 77):byte(1, -1))
