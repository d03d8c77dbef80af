package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAdministratorsFindNothingYet(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	New().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != 404 || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s", w.Code, w.Header())
	}
}
