//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	faultlineName    = "faultline"
	nopName          = "nop"
	serviceGraphName = "servicegraph"
)

// server is a program to measure.
type server struct {
	name  string
	bin   string
	args  []string
	env   func(p *process) []string
	ready func(ctx context.Context, p *process) error
	graph func(p *process) string // URL of the graph as JSON, if it has one
}

func faultline(bin string) server {
	return server{
		name: faultlineName, bin: bin,
		env: func(p *process) []string {
			return []string{
				"FAULTLINE_OTLP_GRPC=" + p.otlp, "FAULTLINE_OTLP_HTTP=" + p.otlpHTTP,
				"FAULTLINE_HTTP=" + p.http, "FAULTLINE_DATA_DIR=" + p.dir,
			}
		},
		ready: func(ctx context.Context, p *process) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.http+"/readyz", nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}
			return nil
		},
		graph: func(p *process) string { return "http://" + p.http + "/api/v1/graph" },
	}
}

func nop(bin string) server { return peer(nopName, bin) }

func serviceGraph(bin string) server { return peer(serviceGraphName, bin) }

func peer(name, bin string) server {
	return server{
		name: name, bin: bin, args: []string{name},
		env: func(p *process) []string { return []string{"PEER_ENDPOINT=" + p.otlp} },
		ready: func(ctx context.Context, p *process) error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.otlp)
			if err != nil {
				return err
			}
			return conn.Close()
		},
	}
}

// process is a running server. It is killed if it is not stopped.
type process struct {
	cmd                  *exec.Cmd
	log                  bytes.Buffer
	dir                  string
	otlp, otlpHTTP, http string // addresses
	exited               chan struct{}
	waited               error // valid once exited is closed
}

// anyCore lets a server use every core, with as many threads as it likes.
const anyCore = -1

// start runs the server on the core, with one thread for Go code, or on
// anyCore, with an empty data directory, and waits until it is ready.
func start(ctx context.Context, s server, core int) (_ *process, err error) {
	p := &process{exited: make(chan struct{})}
	addrs, err := freeAddresses(ctx, 3)
	if err != nil {
		return nil, err
	}
	p.otlp, p.otlpHTTP, p.http = addrs[0], addrs[1], addrs[2]
	if p.dir, err = os.MkdirTemp("", "faultline-bench-"); err != nil {
		return nil, err
	}
	p.cmd = exec.CommandContext(ctx, s.bin, s.args...)
	p.cmd.Env = append(os.Environ(), s.env(p)...)
	if core != anyCore {
		p.cmd.Env = append(p.cmd.Env, "GOMAXPROCS=1")
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.Dir = p.dir
	if err := startOn(core, p.cmd); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	go func() {
		p.waited = p.cmd.Wait()
		close(p.exited)
	}()

	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if err = s.ready(ctx, p); err == nil {
			return p, nil
		}
		select {
		case <-p.exited:
			return nil, errors.Join(fmt.Errorf("exited before it was ready: %w\n%s", p.waited, p.log.Bytes()), p.kill())
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("not ready: %w", err), p.kill())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freeAddresses(ctx context.Context, n int) (addrs []string, err error) {
	var open []net.Listener // until all are found, so that all differ
	defer func() {
		for _, lis := range open {
			err = errors.Join(err, lis.Close())
		}
	}()
	for range n {
		lis, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		open = append(open, lis)
		addrs = append(addrs, lis.Addr().String())
	}
	return addrs, nil
}

// cpu returns the user and system time that the process has used, in ticks of
// 10 ms.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in brackets and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const utime, stime, userHz = 14 - 3, 15 - 3, 100
	var ticks int64
	for _, i := range []int{utime, stime} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHz, nil
}

// peakMemory returns the most resident memory the process has had, in bytes.
func (p *process) peakMemory() (int64, error) { return p.memory("VmHWM:") }

// residentMemory returns what is resident now, in bytes.
func (p *process) residentMemory() (int64, error) { return p.memory("VmRSS:") }

func (p *process) memory(field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, field); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("/proc/PID/status: no " + field)
}

// stop asks the process to end, waits for it, and returns the CPU time of its
// whole life.
func (p *process) stop() (time.Duration, error) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		return 0, errors.New("did not stop within a minute of SIGTERM")
	}
	if p.waited != nil {
		return 0, fmt.Errorf("stopped badly: %w\n%s", p.waited, p.log.Bytes())
	}
	st := p.cmd.ProcessState
	return st.UserTime() + st.SystemTime(), nil
}

// kill makes sure that nothing of the process is left.
func (p *process) kill() error {
	select {
	case <-p.exited:
	default:
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	return os.RemoveAll(p.dir)
}

// startOn starts the command on the core: a child inherits the affinity of the
// thread that starts it.
func startOn(core int, cmd *exec.Cmd) error {
	if core == anyCore {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var own cpuSet
	if err := own.get(); err != nil {
		return err
	}
	if err := only(core).set(0); err != nil {
		return fmt.Errorf("pin server to core %d: %w", core, err)
	}
	return errors.Join(cmd.Start(), own.set(0))
}

// pin binds all threads of this process to the core. Threads that are made
// later inherit it.
func pin(core int) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := only(core).set(tid); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// cpuSet is a kernel CPU mask.
type cpuSet [16]uint64

func only(core int) *cpuSet {
	var s cpuSet
	s[core/64%len(s)] = 1 << (core % 64)
	return &s
}

func (s *cpuSet) get() error { return s.call(syscall.SYS_SCHED_GETAFFINITY, 0) }

func (s *cpuSet) set(tid int) error { return s.call(syscall.SYS_SCHED_SETAFFINITY, tid) }

func (s *cpuSet) call(trap uintptr, tid int) error {
	if _, _, errno := syscall.RawSyscall(trap, uintptr(tid), unsafe.Sizeof(*s), uintptr(unsafe.Pointer(s))); errno != 0 {
		return errno
	}
	return nil
}
