-- Makes a lease last.
--
-- KEYS: 1 the lease (string)
-- ARGV: 1 the holder's token, 2 milliseconds that the lease lives
-- Result: 1 renewed, -1 when the lease is not the holder's
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return -1
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
