// Package layout holds the project to its plan: which package may import which, which outside library belongs to which
// package, and a few habits that a compiler cannot see. It is all test; the plan itself is at the head of plan_test.go.
package layout
