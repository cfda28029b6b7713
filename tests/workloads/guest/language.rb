# Big integers, rationals, hashes, regular expressions, threads, exceptions.
require "digest"
require "json"
puts (1..300).inject(:*).to_s.then { |s| [s.size, Digest::SHA256.hexdigest(s)] }.inspect
puts (3**2000 / 7**300 % 10**30), Integer.sqrt(10**60), (2**521 - 1).pow(3**100, 2**127 - 1)
puts (1..60).sum { |n| Rational(1, n) }, Complex(1, 2)**5, 10.0 / 3, 1e23, 0.1 + 0.2, 2.0**-1074, Float::MAX
numbers = (1..20000).map { |n| n * 7919 % 65521 }
puts Digest::MD5.hexdigest(numbers.sort.join(",")), numbers.group_by { |n| n % 13 }.transform_values(&:sum).to_a.inspect
text = numbers.first(5000).map { |n| n.to_s(36) }.join(" ")
puts text.scan(/\b(?<a>[a-z]+)(?<b>\d+)\b/).size, text.gsub(/(\d)(?=\w)/) { "<#{$1}>" }.sum
puts JSON.generate(JSON.parse(JSON.generate(numbers.each_slice(100).map { |s| { "s" => s, "f" => s.sum / 3.0 } }))).hash.class
queue = Queue.new
threads = 4.times.map { |t| Thread.new { 500.times { |n| queue << t * n } } }
threads.each(&:join)
puts queue.size
puts (begin; Integer("x"); rescue ArgumentError => e; e.message; end)
fiber = Enumerator.new { |y| a, b = 0, 1; loop { y << a; a, b = b, a + b } }
puts fiber.lazy.select(&:even?).first(40).last
puts Math.sin(1e6), Math.gamma(7.5), Math.erf(0.3), Math.cbrt(2), Math.hypot(3, 5), Math.log2(10)
