// SPDX-License-Identifier: Apache-2.0

//go:build unix

package dockerapi_test

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

func TestLookingANameUpEverywhereEndsWithNotFound(t *testing.T) {
	s := serve(t)
	list, err := s.PluginList(t.Context(), client.PluginListOptions{})
	if err != nil || len(list.Items) != 0 {
		t.Errorf("plugins %v, error %v", list, err)
	}
	if _, err := s.PluginInspect(t.Context(), "missing", client.PluginInspectOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("plugin: error %v", err)
	}
	for name, call := range map[string]func() error{
		"service": func() error {
			_, err := s.ServiceInspect(t.Context(), "missing", client.ServiceInspectOptions{})
			return err
		},
		"secret": func() error {
			_, err := s.SecretInspect(t.Context(), "missing", client.SecretInspectOptions{})
			return err
		},
		"task":  func() error { _, err := s.TaskInspect(t.Context(), "missing", client.TaskInspectOptions{}); return err },
		"nodes": func() error { _, err := s.NodeList(t.Context(), client.NodeListOptions{}); return err },
		"swarm": func() error { _, err := s.SwarmInspect(t.Context(), client.SwarmInspectOptions{}); return err },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "This node is not a swarm manager") || !errdefs.IsUnavailable(err) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
