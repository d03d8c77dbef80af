-- Removes entries of a partition, by whoever has its lease, and renews the lease.
--
-- KEYS: 1 the lease (string), 2 the partition (stream)
-- ARGV: 1 the holder's token, 2 milliseconds that the lease lives, 3… ids of entries
-- Result: the number of entries removed, -1 when the lease is not the holder's
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return -1
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('XDEL', KEYS[2], unpack(ARGV, 3))
