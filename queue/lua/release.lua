-- Gives a lease back.
--
-- KEYS: 1 the lease (string)
-- ARGV: 1 the holder's token
-- Result: 1 given back, -1 when the lease is not the holder's
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return -1
end
redis.call('DEL', KEYS[1])
return 1
