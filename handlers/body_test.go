package handlers

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rollcallhq/rollcall/queue"
)

// wrongSignature has the form of one, of a time that is the rig's.
const wrongSignature = "t=1777863721000, v1=0000000000000000000000000000000000000000000000000000000000000000"

// attack is a rig behind TLS, and senders whose bodies do not end until the test does.
type attack struct {
	*rig
	url    string
	answer chan *http.Response // of the senders
	ctx    context.Context     // of the senders: they hang up when it ends
	hangUp func()              // ends it and waits for them

	senders sync.WaitGroup
}

// newAttack starts the rig's server with the times for headers and bodies that are given.
func newAttack(t *testing.T, r *rig, times Timeouts) *attack {
	t.Helper()
	certificate, _ := loadTest(t, r.log)
	run := r.run(t, func(c *ServersConfig) { c.Certificate, c.PlainHTTP, c.Timeouts = certificate, false, times })
	a := &attack{rig: r, url: "https://" + run.Addr("public").String(), answer: make(chan *http.Response, 1024)}
	ctx, cancel := context.WithCancel(t.Context())
	a.ctx, a.hangUp = ctx, func() { cancel(); a.senders.Wait() }
	t.Cleanup(a.hangUp)
	return a
}

// overHTTP returns a client with connections of its own that speaks HTTP/1.1 or HTTP/2.
func overHTTP(t *testing.T, version int) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: version == 2}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// send sends a body, of so many bytes of which the last never come, under that signature. The answer, if there is one
// before the attack ends, goes to the channel.
func (a *attack) send(t *testing.T, client *http.Client, signature string, length, come int64) {
	t.Helper()
	body, writer := io.Pipe()
	context.AfterFunc(a.ctx, func() { _ = writer.CloseWithError(a.ctx.Err()) })
	req := must(http.NewRequestWithContext(a.ctx, http.MethodPost, a.url+"/webhooks/workos", http.NoBody))
	req.Body = struct { // closed by the client when the answer is here
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(zeros{}, come), body), body}
	req.ContentLength = length
	req.Header.Set("Content-Type", "application/json")
	if signature != "" {
		req.Header.Set("WorkOS-Signature", signature)
	}
	a.senders.Go(func() {
		res, err := client.Do(req)
		if err == nil {
			_ = res.Body.Close()
			a.answer <- res
		}
	})
}

// status waits for an answer of a sender.
func (a *attack) status(t *testing.T) (status, protocol int) {
	t.Helper()
	select {
	case res := <-a.answer:
		return res.StatusCode, res.ProtoMajor
	case <-time.After(20 * time.Second):
		t.Fatal("a sender has no answer after 20 s")
		return 0, 0
	}
}

// holding returns how many bodies are being read, and what they have claimed.
func (a *attack) holding() (readers, bytes int64) {
	return a.readers.used.Load(), a.unproven.used.Load()
}

var never = Timeouts{ReadHeader: time.Hour, Read: 3 * time.Hour, Body: time.Hour, Write: 3 * time.Hour}

func TestASlowBodyWithoutASignatureIsRefusedBeforeItIsRead(t *testing.T) {
	t.Parallel()
	for _, version := range []int{1, 2} {
		for signature, outcome := range map[string]string{"": "missing", "t=1, v1=00": "malformed"} {
			t.Run(fmt.Sprintf("HTTP/%d, %s", version, outcome), func(t *testing.T) {
				t.Parallel()
				a := newAttack(t, newRig(t), never)
				a.send(t, overHTTP(t, version), signature, 1000, 0)
				if status, protocol := a.status(t); status != 401 || protocol != version {
					t.Errorf("status %d over HTTP/%d, want 401", status, protocol)
				}
				if n := testutil.ToFloat64(a.metrics.deliveries.WithLabelValues("workos", outcome)); n != 1 {
					t.Errorf("counted %v times as %s; log %s", n, outcome, a.log)
				}
			})
		}
	}
}

func TestWhatIsRefusedByItsHeadersIsNotRead(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	for _, signature := range []string{"", "nonsense"} {
		req := rig.signed(t, eventBody("event_1"), rig.now)
		req.Header.Set("WorkOS-Signature", signature)
		req.Body = io.NopCloser(iotest.ErrReader(fmt.Errorf("it was read")))
		if w := rig.do(req); w.Code != 401 {
			t.Errorf("signature %q: status %d, want 401; log %s", signature, w.Code, rig.log)
		}
	}
}

func TestSlowBodiesDoNotKeepASignedDeliveryFromBeingAccepted(t *testing.T) {
	t.Parallel()
	const connections, streams = 10, 60
	a := newAttack(t, newRig(t), never)
	for range connections {
		client := overHTTP(t, 2)
		for range streams {
			a.send(t, client, wrongSignature, 1000, 10)
		}
	}
	eventually(t, "all bodies are being read", func() bool { n, _ := a.holding(); return n == connections*streams })
	for i := range 20 {
		if res := a.rig.send(t, overHTTP(t, 2), a.post(t, a.url, eventBody(fmt.Sprint("event_", i)))); res.StatusCode != 200 {
			t.Fatalf("signed delivery %d: status %d; log %s", i, res.StatusCode, a.log)
		}
	}
	if n, bytes := a.holding(); n != connections*streams || bytes != 0 {
		t.Errorf("%d bodies are being read and claim %d bytes, want %d that claim none", n, bytes, connections*streams)
	}
	a.hangUp()
	eventually(t, "no body is being read", func() bool { n, _ := a.holding(); return n == 0 })
}

func TestBodiesThatNeverEndHoldBoundedMemory(t *testing.T) {
	t.Parallel()
	const senders, limit = 40, 4 << 20
	rig := newRig(t)
	rig.unproven.limit = limit
	a := newAttack(t, rig, never)
	client := overHTTP(t, 2)
	for range senders {
		a.send(t, client, wrongSignature, -1, DefaultBodyLimit-2)
	}
	eventually(t, "who has no room is refused, and who has is being read", func() bool {
		n, bytes := a.holding()
		if bytes > limit {
			t.Fatalf("%d bytes are claimed, the limit is %d", bytes, limit)
		}
		return int(n)+len(a.answer) == senders && len(a.answer) >= senders-limit/(DefaultBodyLimit-2*freeBytes)
	})
	for range len(a.answer) {
		if status, _ := a.status(t); status != 503 {
			t.Errorf("a body without room: status %d, want 503", status)
		}
	}
	if n := testutil.ToFloat64(a.metrics.deliveries.WithLabelValues("workos", "overload")); n == 0 {
		t.Error("no overload is counted")
	}
	small := strings.Replace(string(eventBody("event_1")), "{", "{"+strings.Repeat(" ", 15<<10), 1)
	if res := a.rig.send(t, client, a.post(t, a.url, []byte(small))); res.StatusCode != 200 {
		t.Errorf("a signed delivery of 15 KiB: status %d, want 200; log %s", res.StatusCode, a.log)
	}
	a.hangUp()
	eventually(t, "all is given back", func() bool { n, bytes := a.holding(); return n == 0 && bytes == 0 })
	large := strings.Replace(string(eventBody("event_2")), "{", "{"+strings.Repeat(" ", DefaultBodyLimit/2), 1)
	if res := a.rig.send(t, client, a.post(t, a.url, []byte(large))); res.StatusCode != 200 {
		t.Errorf("a signed delivery of 512 KiB afterwards: status %d, want 200; log %s", res.StatusCode, a.log)
	}
}

func TestABodyClaimsNoMoreThanTwiceWhatHasCome(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ declared, come, want int64 }{
		"nothing yet":                     {DefaultBodyLimit, 0, 0},
		"within the free bytes":           {DefaultBodyLimit, freeBytes - 1, 0},
		"as many as are free":             {DefaultBodyLimit, freeBytes, freeBytes},
		"more":                            {DefaultBodyLimit, 40 << 10, 64<<10 - freeBytes},
		"more, and nearly what it should": {41 << 10, 40 << 10, 41<<10 + 1 - freeBytes},
		"more, of a length not told":      {-1, 40 << 10, 64<<10 - freeBytes},
		"little, of a length not told":    {-1, 1000, 0},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			rig := newRig(t)
			req := rig.signed(t, eventBody("event_1"), rig.now)
			stalls := make(chan struct{})
			var claimed int64
			req.ContentLength, req.Body = c.declared, io.NopCloser(io.MultiReader(io.LimitReader(zeros{}, c.come), readFunc(func() error {
				claimed = rig.unproven.used.Load()
				close(stalls)
				return io.ErrUnexpectedEOF
			})))
			if w := rig.do(req); w.Code != 503 {
				t.Errorf("status %d, want 503", w.Code)
			}
			<-stalls
			if left := rig.unproven.used.Load(); claimed != c.want || left != 0 {
				t.Errorf("it claimed %d bytes, want %d; afterwards %d, want none", claimed, c.want, left)
			}
		})
	}
}

// readFunc is a reader that does something instead.
type readFunc func() error

func (f readFunc) Read([]byte) (int, error) { return 0, f() }

func TestABodyThatStallsIsCutOffAndItsBytesAreGivenBack(t *testing.T) {
	t.Parallel()
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", version), func(t *testing.T) {
			t.Parallel()
			times := never
			times.Body = 500 * time.Millisecond
			a := newAttack(t, newRig(t), times)
			client := overHTTP(t, version)
			a.send(t, client, wrongSignature, 100<<10, 90<<10)
			eventually(t, "its bytes are claimed", func() bool { _, bytes := a.holding(); return bytes == 100<<10+1-freeBytes })
			if status, protocol := a.status(t); status != 503 || protocol != version {
				t.Errorf("status %d over HTTP/%d, want 503", status, protocol)
			}
			if n := testutil.ToFloat64(a.metrics.deliveries.WithLabelValues("workos", "aborted")); n != 1 {
				t.Errorf("counted %v times as aborted; log %s", n, a.log)
			}
			if n, bytes := a.holding(); n != 0 || bytes != 0 {
				t.Errorf("%d bodies are being read and claim %d bytes, want none", n, bytes)
			}
			if res := a.rig.send(t, client, a.post(t, a.url, eventBody("event_1"))); res.StatusCode != 200 {
				t.Errorf("a delivery afterwards: status %d; log %s", res.StatusCode, a.log)
			}
		})
	}
}

func TestBytesAreGivenBackOnceTheBodyIsProven(t *testing.T) {
	t.Parallel()
	rig := newRig(t)
	var claimed int64
	rig.enqueued.do = func(context.Context, queue.Delivery) (queue.Result, error) {
		claimed = rig.unproven.used.Load()
		return queue.Accepted, nil
	}
	body := append(eventBody("event_1"), strings.Repeat(" ", 100<<10)...)
	rig.unproven.limit = int64(len(body)) + 1 - freeBytes
	for range 3 {
		claimed = -1
		if w := rig.do(rig.signed(t, body, rig.now)); w.Code != 200 || claimed != 0 {
			t.Errorf("status %d, want 200; %d bytes claimed while it is queued, want none; log %s", w.Code, claimed, rig.log)
		}
	}
}

func TestMoreBodiesThanTheLimitAreToldToComeAgain(t *testing.T) {
	t.Parallel()
	a := newAttack(t, newRig(t, func(c *ReceiverConfig) { c.InFlight = 2 }), never)
	client := overHTTP(t, 2)
	for range 2 * readersInFlight {
		a.send(t, client, wrongSignature, 10, 0)
	}
	eventually(t, "all bodies are being read", func() bool { n, _ := a.holding(); return n == 2*readersInFlight })
	if res := a.rig.send(t, client, a.post(t, a.url, eventBody("event_1"))); res.StatusCode != 503 {
		t.Errorf("one more: status %d, want 503", res.StatusCode)
	}
	a.hangUp()
	eventually(t, "none is being read", func() bool { n, _ := a.holding(); return n == 0 })
	if res := a.rig.send(t, client, a.post(t, a.url, eventBody("event_1"))); res.StatusCode != 200 {
		t.Errorf("afterwards: status %d, want 200; log %s", res.StatusCode, a.log)
	}
}

func TestAConnectionIsToldHowMuchItMayAskForAtOnce(t *testing.T) {
	t.Parallel()
	a := newAttack(t, newRig(t), never)
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}).
		DialContext(t.Context(), "tcp", strings.TrimPrefix(a.url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	// RFC 9113 §4.1, §6.5: a frame's header is 9 bytes, length and type first; a setting is 6, name and value.
	header := make([]byte, 9)
	if _, err := io.ReadFull(conn, header); err != nil || header[3] != 4 {
		t.Fatalf("the first frame %x, %v, is not SETTINGS", header, err)
	}
	settings, got := make([]byte, binary.BigEndian.Uint32(header[:4])>>8), map[uint16]uint32{}
	if _, err := io.ReadFull(conn, settings); err != nil {
		t.Fatal(err)
	}
	for ; len(settings) >= 6; settings = settings[6:] {
		got[binary.BigEndian.Uint16(settings)] = binary.BigEndian.Uint32(settings[2:])
	}
	if streams, frame := got[3], got[5]; streams != maxStreams || frame != maxFrameBytes {
		t.Errorf("%d streams and frames of %d bytes, want %d and %d", streams, frame, maxStreams, maxFrameBytes)
	}
}
