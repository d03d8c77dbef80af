-- Adds a delivery to the end of a partition, unless its id has been seen.
--
-- KEYS: 1 the id's mark (string), 2 the partition (stream)
-- ARGV: 1 longest stream, 2 seconds that the mark lives, 3 "1" to add it though it was seen,
--       4… the entry's fields and values
-- Result: 1 added, 0 seen before, -1 full
--
-- The entry is added first and marked last: a mark without an entry would be a lost delivery, an entry without a mark
-- is only a duplicate. A script that fails midway is not undone.
if ARGV[3] ~= '1' and redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[1]) then
  return -1
end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 4))
redis.call('SET', KEYS[1], '1', 'EX', ARGV[2])
return 1
