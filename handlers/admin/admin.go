// Package admin answers administrators, on a loopback listener of its own that no sender reaches.
//
// So far it has nothing to say: every path is a 404.
package admin

import (
	"net/http"

	"github.com/rollcallhq/rollcall/handlers"
)

// New returns what answers on the admin listener.
func New() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		handlers.WriteProblem(w, http.StatusNotFound, "Nothing answers here.", "")
	})
}
