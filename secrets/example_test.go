package secrets_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rollcallhq/rollcall/secrets"
)

func ExampleKeyring() {
	folder, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(folder) }() // the example is over
	file := filepath.Join(folder, "signing-key")
	if err := os.WriteFile(file, []byte("a key as the console shows it\n"), 0o600); err != nil {
		panic(err)
	}

	ring, err := secrets.New(secrets.Config{
		Refs:  map[string]secrets.Ref{"workos": secrets.Ref("file:" + file)},
		Grace: 24 * time.Hour,
	})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- ring.Run(ctx) }()
	if err := ring.Wait(ctx); err != nil {
		panic(err)
	}
	snapshot, err := ring.Current("workos") // in a request: no I/O
	if err != nil {
		panic(err)
	}
	fmt.Println(snapshot.Versions[0].Secret)
	fmt.Println(len(snapshot.Versions[0].Secret.Reveal()), "bytes")
	stop()
	fmt.Println(<-done)
	// Output:
	// [redacted]
	// 29 bytes
	// <nil>
}
