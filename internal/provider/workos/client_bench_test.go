package workos

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/internal/provider"
)

// One page of users, from its bytes to what the caller gets.
func BenchmarkUsersPage(b *testing.B) {
	const user = `{"object":"directory_user","id":"directory_user_01K1FZ0000000000000%05d","directory_id":"directory_01K1FYZ0000000000000000DIR",
		"organization_id":"org_01K1FYZ00000000000000000ORG","idp_id":"%d","email":"person%d@example.com","first_name":"Ada","last_name":"Lovelace","name":"Ada Lovelace",
		"emails":[],"job_title":null,"username":null,"state":"active","raw_attributes":{},"custom_attributes":{"department":"Engines","floor":3,"job_title":"Analyst"},
		"role":{"slug":"admin"},"roles":[{"slug":"member"},{"slug":"admin"}],"groups":[],"created_at":"2026-07-30T09:00:00.000Z","updated_at":"2026-07-31T09:59:59.000Z"}`
	users := make([]string, mostRows)
	for i := range users {
		users[i] = fmt.Sprintf(user, i, i, i)
	}
	a := answer{status: http.StatusOK, body: []byte(`{"object":"list","data":[` + strings.Join(users, ",") + `],"list_metadata":{"before":null,"after":"x"}}`)}
	c := &Client{config: provider.APIConfig{Options: provider.Options{Attributes: []string{"role", "roles", "custom_attributes.department"}}}}
	b.SetBytes(int64(len(a.body)))
	b.ReportAllocs()
	for b.Loop() {
		var page rows[object]
		if err := read(a, &page); err != nil || len(*page.Data) != mostRows {
			b.Fatal(err)
		}
		for i := range *page.Data {
			if item, err := c.user(&(*page.Data)[i]); err != nil || item.User.Email == "" {
				b.Fatal(err)
			}
		}
	}
}
