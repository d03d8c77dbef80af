package store

import "github.com/rollcallhq/rollcall/internal/directory"

// DirectoryTally is a directory's register with what it comes to, ends counted at once. One that said nothing of itself yet,
// and is known from its users or groups alone, has a register with an empty Version.
type DirectoryTally struct {
	directory.Register
	Mode     Mode  // empty when it has none yet
	Accounts int64 // there are
	Active   int64 // of them
	Grants   int64 // of the active ones
	// Barred counts the inactive accounts whose user is active by the directory's last word: the directory's end took them
	// away. They come back when it counts no more, but for those whose account a more senior user had before.
	Barred int64
}
