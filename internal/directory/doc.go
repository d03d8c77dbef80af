// Package directory is what a directory's word means: events in, registers, accounts, grants and changes out.
//
// A directory (Google Workspace, Entra, Okta, …) says things about itself, its users, its groups and their
// memberships. Each saying is an [Event], a whole-state assertion about one register with a totally ordered
// [Version] taken from the event alone. A register keeps its greatest version, so registers, accounts and grants
// are functions of the set of events: order, repetition and batching of their arrival change nothing.
//
// The package is pure. It reads no clock, opens nothing and imports the standard library only. Stores load a
// [State], call [State.Fold], and save its [Delta]; only what the fold says counts.
package directory
