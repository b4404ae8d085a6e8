// SPDX-License-Identifier: Apache-2.0

package build

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/moby/api/types/jsonstream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"byre.dev/byre/internal/engine/filter"
)

// exporter is what a test expects of one.
type exporter struct {
	Type  string
	Attrs map[string]string
}

func exporters(req *controlapi.SolveRequest) []exporter {
	var out []exporter
	for _, e := range req.Exporters {
		out = append(out, exporter{e.Type, e.Attrs})
	}
	return out
}

func TestAnImageForTheStoreIsExportedToTheSessionsContentStore(t *testing.T) {
	for name, tc := range map[string]struct {
		in, want []exporter
		names    string
		stored   bool
	}{
		"named twice": {
			in:     []exporter{{"moby", map[string]string{"name": "a:1,a:1,docker.io/library/b", "unpack": "true"}}},
			want:   []exporter{{"oci", map[string]string{"name": "docker.io/library/a:1,docker.io/library/b:latest", "tar": "false", "compression": "uncompressed"}}},
			names:  "docker.io/library/a:1 docker.io/library/b:latest",
			stored: true,
		},
		"compressed as asked for": {
			in:     []exporter{{"image", map[string]string{"compression": "zstd"}}},
			want:   []exporter{{"oci", map[string]string{"tar": "false", "compression": "zstd"}}},
			stored: true,
		},
		"pushed too, after the client's outputs": {
			in: []exporter{{"image", map[string]string{"name": "r.test/a:1", "push": "true"}}, {"local", nil}},
			want: []exporter{
				{"oci", map[string]string{"name": "r.test/a:1", "tar": "false", "attestation-inline": "true"}}, {"local", nil},
				{"image", map[string]string{"name": "r.test/a:1", "push": "true", "oci-mediatypes": "true"}},
			},
			names:  "r.test/a:1",
			stored: true,
		},
		"pushed alone": {
			in:   []exporter{{"image", map[string]string{"name": "r.test/a:1", "push": "true", "store": "false"}}},
			want: []exporter{{"image", map[string]string{"name": "r.test/a:1", "push": "true", "oci-mediatypes": "true"}}},
		},
		"the client's own": {
			in:   []exporter{{"tar", nil}, {"docker", map[string]string{"name": "x"}}},
			want: []exporter{{"tar", nil}, {"docker", map[string]string{"name": "x"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := &controlapi.SolveRequest{}
			for _, e := range tc.in {
				req.Exporters = append(req.Exporters, &controlapi.Exporter{Type: e.Type, Attrs: e.Attrs})
			}
			names, stored, err := toStore(req)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, exporters(req)); diff != "" {
				t.Errorf("exporters (-want +got):\n%s", diff)
			}
			var got []string
			for _, n := range names {
				got = append(got, n.String())
			}
			if stored != tc.stored || strings.Join(got, " ") != tc.names {
				t.Errorf("stored %v under %q, want %v under %q", stored, got, tc.stored, tc.names)
			}
		})
	}
}

func TestExportersThatCannotBeHonoredAreRefused(t *testing.T) {
	moby := func(attrs map[string]string) *controlapi.Exporter {
		return &controlapi.Exporter{Type: "moby", Attrs: attrs}
	}
	for want, in := range map[string][]*controlapi.Exporter{
		"exports to the image store once":        {moby(nil), moby(nil)},
		"tar=false":                              {moby(nil), {Type: "oci", Attrs: map[string]string{"tar": "false"}}},
		"neither true nor false":                 {moby(map[string]string{"push": "perhaps"})},
		"invalid tag \"UPPER\"":                  {moby(map[string]string{"name": "UPPER"})},
		"refusing to create a tag with a digest": {moby(map[string]string{"name": "a@sha256:" + strings.Repeat("0", 64)})},
		"an image is given at most 256 names":    {moby(map[string]string{"name": manyNames(257)})},
		"an exporter is missing":                 {nil},
	} {
		_, _, err := toStore(&controlapi.SolveRequest{Exporters: in})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that says %q", err, want)
		}
	}
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("a:" + strings.Repeat("x", i%100+1) + strings.Repeat("y", i/100) + ",")
	}
	return b.String()
}

func TestSessionsThatAreNotDescribedAreRefused(t *testing.T) {
	const id = "X-Docker-Expose-Session-Uuid"
	for name, headers := range map[string]map[string][]string{
		"without an ID":    {},
		"with two":         {id: {"a", "b"}},
		"with a long one":  {id: {strings.Repeat("a", 129)}},
		"of many methods":  {id: {"a"}, "X-Docker-Expose-Session-Grpc-Method": make([]string, maxMethods+1)},
		"of large headers": {id: {"a"}, "X-Docker-Expose-Session-Sharedkey": {strings.Repeat("a", maxHeader)}},
	} {
		if _, _, err := sessionMeta(headers); err == nil {
			t.Errorf("session %s is taken", name)
		}
	}
	meta, got, err := sessionMeta(map[string][]string{id: {"a"}, "Authorization": {"secret"}})
	if err != nil || got != "a" || len(meta) != 1 {
		t.Errorf("session %q with %v, error %v; want a with its ID alone", got, meta, err)
	}
}

func TestPruneSpeaksBuildKitsWords(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	msg, err := PruneRequest{All: true, MaxUsedSpace: 5, Filters: filter.Args{
		"until": {"24h"}, "type": {"regular"}, "inuse": {""}, "id": {"abc"},
	}}.message(now)
	if err != nil {
		t.Fatal(err)
	}
	if want := "id~=abc,type==regular,inuse"; len(msg.Filter) != 1 || msg.Filter[0] != want {
		t.Errorf("filter %q, want %q", msg.Filter, want)
	}
	if msg.KeepDuration != int64(24*time.Hour) || !msg.All || msg.MaxUsedSpace != 5 {
		t.Errorf("message %v", msg)
	}
	for _, f := range []filter.Args{{"label": {"a"}}, {"id": {"a", "b"}}, {"until": {"1h"}, "unused-for": {"1h"}}} {
		if _, err := (PruneRequest{Filters: f}).message(now); err == nil {
			t.Errorf("filters %v are taken", f)
		}
	}
}

func TestLinesAreThoseOfDockersFirstBuilder(t *testing.T) {
	var got strings.Builder
	out := newOutput(Request{Output: &Output{Attrs: map[string]string{"name": "a:1"}}}, func(m jsonstream.Message) { got.WriteString(m.Stream) })
	now := timestamppb.Now()
	for _, st := range []*controlapi.StatusResponse{
		{Vertexes: []*controlapi.Vertex{{Digest: "i", Name: "[internal] load build definition", Started: now}, {Digest: "x", Name: "[1/2] FROM a"}}},
		{Vertexes: []*controlapi.Vertex{{Digest: "x", Name: "[1/2] FROM a", Cached: true, Started: now}}},
		{Vertexes: []*controlapi.Vertex{{Digest: "y", Name: "[stage 2/2] RUN make", Started: now}}},
		{Logs: []*controlapi.VertexLog{{Msg: []byte("made\n")}}},
		{Vertexes: []*controlapi.Vertex{{Digest: "y", Name: "[stage 2/2] RUN make", Started: now, Completed: now}}},
	} {
		if err := out.status(st); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.done("sha256:0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	want := "Step 1/2 : FROM a\n ---> Using cache\nStep 2/2 : RUN make\nmade\nSuccessfully built 0123456789ab\nSuccessfully tagged a:1\n"
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestABaseImageThatIsNotFoundIsNamed(t *testing.T) {
	const resolve = "failed to solve: x:1: failed to resolve source metadata for docker.io/library/x:1: "
	for cause, is := range map[string]func(error) bool{
		"docker.io/library/x:1: not found":                                          errdefs.IsNotFound,
		"failed to do request: dial tcp: lookup registry-1.docker.io: no such host": errdefs.IsUnavailable,
	} {
		err := fromBuilder(status.Error(codes.Unknown, resolve+cause))
		if !is(err) || !strings.Contains(err.Error(), "the base image docker.io/library/x:1 is not here") || !strings.Contains(err.Error(), cause) {
			t.Errorf("%s: %v", cause, err)
		}
	}
	if err := fromBuilder(status.Error(codes.InvalidArgument, "the Dockerfile cannot be empty")); !errdefs.IsInvalidArgument(err) || err.Error() != "the Dockerfile cannot be empty" {
		t.Errorf("another error came out as %v", err)
	}
}
