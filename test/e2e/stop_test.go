package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rollcallhq/rollcall/internal/simulator"
	"github.com/rollcallhq/rollcall/test/rig"
)

// slow is a delivery whose body has begun to be sent, and ends when the test says so.
type slow struct {
	rest   func()
	answer chan rig.Answer
}

// begin sends half of a delivery, on a connection of its own, and returns when the process is reading it.
func begin(t *testing.T, site *rig.Site, p *rig.Process, content []byte) slow {
	t.Helper()
	reader, writer := io.Pipe()
	request := site.Request(t, p.URL(), content)
	request.Body, request.ContentLength = reader, int64(len(content))
	s := slow{answer: make(chan rig.Answer, 1)}
	s.rest = sync.OnceFunc(func() {
		_, err := writer.Write(content[len(content)/2:])
		_ = writer.CloseWithError(err)
	})
	t.Cleanup(func() { _ = writer.CloseWithError(context.Canceled) })
	go func() {
		response, err := site.NewClient(t).Do(request)
		if err != nil {
			s.answer <- rig.Answer{Body: err.Error()}
			return
		}
		defer func() { _ = response.Body.Close() }()
		text, _ := io.ReadAll(response.Body)
		s.answer <- rig.Answer{Status: response.StatusCode, Body: string(text)}
	}()
	if _, err := writer.Write(content[:len(content)/2]); err != nil {
		t.Fatal(err)
	}
	rig.Until(t, "a delivery under way", func() bool { return p.Metric(t, "rollcall_inflight_deliveries") > 0 })
	return s
}

// An end that was asked for is announced first, then nobody new is let in, and who is in is answered.
func TestAProcessThatIsToldToEndAnswersWhatIsUnderWayAndExitsInOrder(t *testing.T) {
	t.Parallel()
	site := rig.New(t, rig.Options{Set: []string{"public.drain_delay=1s"}})
	d, deliveries := company(6, 4)
	p := site.Serve(t, "receiver,worker")
	awaitAccepted(t, site, p, deliveries[0])
	last := deliveries[len(deliveries)-1]
	underWay := begin(t, site, p, last.Body)

	p.Terminate()
	rig.Until(t, "the process is unready", func() bool {
		status, _ := p.Ops(t, "/readyz")
		return status == http.StatusServiceUnavailable
	})
	accepted(t, site, p, deliveries[1:len(deliveries)-1]) // load balancers need a moment to notice
	rig.Until(t, "nobody new is let in", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.Address())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if status, _ := p.Ops(t, "/livez"); status != http.StatusOK {
		t.Errorf("/livez of a process that waits for a delivery = %d, want 200", status)
	}
	underWay.rest()
	if a := <-underWay.answer; a.Status != http.StatusOK {
		t.Errorf("the delivery that was under way is answered %d %s, want 200", a.Status, a.Body)
	}
	if code := p.Ended(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}

	site.Serve(t, "worker") // what the first one's worker left
	mustMatch(t, site, d, deliveries)
}

// One process after the other is replaced while senders are at work; a load balancer that looks at readiness stands
// before them. Nobody has to send anything twice for it.
func TestARollingDeployUnderLoadCostsNoDelivery(t *testing.T) {
	t.Parallel()
	site := rig.New(t, rig.Options{Set: []string{"public.drain_delay=1s"}})
	processes := []*rig.Process{started(t, site), started(t, site)}
	spread := rig.NewSpread(processes...)
	l := newLoad(t, site.Sender(t, spread))
	for i, old := range processes {
		l.goesBy(t, 200)
		old.Terminate()
		rig.Until(t, "the process is unready", func() bool {
			status, _ := old.Ops(t, "/readyz")
			return status != http.StatusOK
		})
		spread.Set(processes[1-i])
		if code := old.Ended(t); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		processes[i] = started(t, site)
		spread.Set(processes...)
	}
	l.goesBy(t, 200)
	if l.end(t); l.again > 0 {
		t.Errorf("%d of %d deliveries had to be sent again, want none", l.again, len(l.sent))
	}
	mustMatch(t, site, l.directory, l.sent)
}

// load is a directory in which something always happens, told of by a sender until the end.
type load struct {
	directory *simulator.Directory
	taken     atomic.Int64 // deliveries and repeats so far
	stop      chan struct{}
	done      chan struct{}

	// Of the goroutine that sends, until done is closed.
	sent  []simulator.Delivery
	again int
	err   error
}

func newLoad(t *testing.T, sender *simulator.Sender) *load {
	t.Helper()
	l := &load{stop: make(chan struct{}), done: make(chan struct{})}
	sender.Repeat, sender.Window, sender.Concurrency = 0.1, 20, 4
	sender.OnAnswer = func(a simulator.Answer) {
		if a.Accepted() {
			l.taken.Add(1)
		}
	}
	var next []simulator.Delivery
	l.directory, next = company(7, 50)
	go func() {
		defer close(l.done)
		for l.err == nil {
			var stats simulator.Stats
			stats, l.err = sender.Send(t.Context(), next)
			l.sent, l.again = append(l.sent, next...), l.again+stats.Retried
			select {
			case <-l.stop:
				return
			default:
			}
			for next = nil; len(next) < 100; {
				next = append(next, l.directory.Step()...)
			}
		}
	}()
	t.Cleanup(func() { <-l.done })
	return l
}

// goesBy waits until so many more deliveries were taken.
func (l *load) goesBy(t *testing.T, more int64) {
	t.Helper()
	from := l.taken.Load()
	rig.Until(t, "deliveries go by", func() bool { return l.taken.Load() >= from+more })
}

// end ends it, when what was begun is sent.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	if <-l.done; l.err != nil {
		t.Fatalf("Send() = %v", l.err)
	}
}

// started is a process that takes deliveries.
func started(t *testing.T, site *rig.Site) *rig.Process {
	t.Helper()
	p := site.Serve(t, "receiver,worker")
	p.AwaitReady(t)
	rig.Until(t, "the process knows its queue", func() bool { return p.Log().Find("message", "queue") != nil })
	return p
}
