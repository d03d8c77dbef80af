// Package vault has the tests that need a real Vault: one runs in the test's process, in memory, on a loopback port.
//
// It is a module of its own, because Vault brings some three hundred others, none of which the service needs. They are
// built once, which takes minutes; after that a change of a test is linked in seconds. Vault's licence allows its use
// in tests; nothing of it is part of what Rollcall ships.
package vault
