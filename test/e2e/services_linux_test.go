// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/ed25519"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh/agent"
)

// startRegistry serves an empty registry on loopback while the script runs, and
// sets a variable to its HOST:PORT: registry VAR.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: registry VAR")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	srv := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) }) // ends with Close
	ts.Defer(func() {
		ts.Check(srv.Close())
		wg.Wait()
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], net.JoinHostPort("localhost", port))
}

// startAgent runs an ssh agent with one key of the comment given while the script
// runs, and sets $SSH_AUTH_SOCK: sshagent COMMENT.
func startAgent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sshagent COMMENT")
	}
	_, key, err := ed25519.GenerateKey(nil)
	ts.Check(err)
	keys := agent.NewKeyring()
	ts.Check(keys.Add(agent.AddedKey{PrivateKey: key, Comment: args[0]}))
	socket := filepath.Join(ts.Getenv("WORK"), "agent.sock")
	l, err := net.Listen("unix", socket)
	ts.Check(err)
	var wg sync.WaitGroup
	wg.Go(func() { serveAgent(l, keys) })
	ts.Defer(func() {
		ts.Check(l.Close())
		wg.Wait()
	})
	ts.Setenv("SSH_AUTH_SOCK", socket)
}

// serveAgent answers one client after the other until the listener is closed.
func serveAgent(l net.Listener, keys agent.Agent) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_ = agent.ServeAgent(keys, conn) // ends with the client
			_ = conn.Close()
		}
	}
}
