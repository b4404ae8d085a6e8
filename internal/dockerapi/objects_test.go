// SPDX-License-Identifier: Apache-2.0

//go:build unix

package dockerapi_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
)

func TestUlimitsOfAnUpdateAreThoseOfTheNextStart(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	resp, err := s.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name: "limits", Config: &container.Config{Image: "tiny"},
		HostConfig: &container.HostConfig{Resources: container.Resources{Ulimits: []*container.Ulimit{
			{Name: "nofile", Soft: 10, Hard: 20}, {Name: "nproc", Soft: 5, Hard: 5},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.ContainerUpdate(t.Context(), resp.ID, client.ContainerUpdateOptions{
		Resources: &container.Resources{Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.ContainerInspect(t.Context(), "limits", client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []*container.Ulimit{{Name: "nproc", Soft: 5, Hard: 5}, {Name: "nofile", Soft: 100, Hard: 200}}
	if diff := cmp.Diff(want, c.Container.HostConfig.Ulimits); diff != "" {
		t.Errorf("ulimits (-want +got):\n%s", diff)
	}
	_, err = s.ContainerUpdate(t.Context(), resp.ID, client.ContainerUpdateOptions{
		Resources: &container.Resources{Ulimits: []*container.Ulimit{{Name: "flights", Soft: 1, Hard: 1}}},
	})
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("a limit that nobody knows: error %v", err)
	}
}

// The race detector is what sees it.
func TestVolumesAreListedByManyAtOnce(t *testing.T) {
	s := serve(t)
	if _, err := s.VolumeCreate(t.Context(), client.VolumeCreateOptions{Labels: map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				list, err := s.VolumeList(t.Context(), client.VolumeListOptions{})
				if err != nil || len(list.Items) != 1 || list.Items[0].Labels["a"] != "b" {
					t.Errorf("volumes %+v, error %v", list.Items, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestVolumeOfAContainerThatIsBeingMadeStays(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := s.VolumeRemove(t.Context(), "shared", client.VolumeRemoveOptions{Force: true}); err != nil && !errdefs.IsConflict(err) {
				t.Errorf("removal: %v", err)
			}
		}
	})
	for i := range 10 {
		resp, err := s.ContainerCreate(t.Context(), client.ContainerCreateOptions{
			Name: fmt.Sprintf("user-%d", i), Config: &container.Config{Image: "tiny"},
			HostConfig: &container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: "shared", Target: "/v"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.VolumeInspect(t.Context(), "shared", client.VolumeInspectOptions{}); err != nil {
			t.Errorf("container %d was made on a volume that is gone: %v", i, err)
		}
		if _, err := s.ContainerRemove(t.Context(), resp.ID, client.ContainerRemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestAContainerThatCannotBeMadeLeavesNoAnonymousVolume(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	status, text := s.post(t, "/containers/create", `{"Image":"tiny","HostConfig":{"Mounts":[
		{"Type":"volume","Target":"/v"},{"Type":"bind","Source":"/nonexistent-source","Target":"/x"}]}}`)
	if status != http.StatusBadRequest {
		t.Fatalf("%d %s", status, text)
	}
	list, err := s.VolumeList(t.Context(), client.VolumeListOptions{})
	if err != nil || len(list.Items) != 0 {
		t.Errorf("volumes %+v, error %v", list.Items, err)
	}
}

func TestObjectsAreFoundByTheLabelsThatTheyHaveNot(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	for name, labels := range map[string]map[string]string{"with": {"keep": "yes"}, "without": nil} {
		s.create(t, name, container.Config{Image: "tiny", Labels: labels})
		if _, err := s.VolumeCreate(t.Context(), client.VolumeCreateOptions{Name: name, Labels: labels}); err != nil {
			t.Fatal(err)
		}
	}
	not := client.Filters{}.Add("label!", "keep=yes")
	list, err := s.ContainerList(t.Context(), client.ContainerListOptions{All: true, Filters: not})
	if err != nil || len(list.Items) != 1 || list.Items[0].Names[0] != "/without" {
		t.Errorf("containers without the label: %+v, error %v", list.Items, err)
	}
	images, err := s.ImageList(t.Context(), client.ImageListOptions{Filters: not})
	if err != nil || len(images.Items) != 1 {
		t.Errorf("images without the label: %+v, error %v", images.Items, err)
	}
	pruned, err := s.VolumePrune(t.Context(), client.VolumePruneOptions{All: true, Filters: not.Clone()})
	if err != nil || len(pruned.Report.VolumesDeleted) != 1 || pruned.Report.VolumesDeleted[0] != "without" {
		t.Errorf("volumes pruned: %+v, error %v", pruned.Report, err)
	}
	gone, err := s.ContainerPrune(t.Context(), client.ContainerPruneOptions{Filters: not})
	if err != nil || len(gone.Report.ContainersDeleted) != 1 {
		t.Errorf("containers pruned: %+v, error %v", gone.Report, err)
	}
	if _, err := s.NetworkPrune(t.Context(), client.NetworkPruneOptions{Filters: not}); err != nil {
		t.Errorf("networks: %v", err)
	}
	if _, err := s.ImagePrune(t.Context(), client.ImagePruneOptions{Filters: not}); err != nil {
		t.Errorf("images: %v", err)
	}
}

func TestEventsTellLabelsOfImagesAndTheEndOfAnonymousVolumes(t *testing.T) {
	s := serve(t)
	resp, err := s.ImageImport(t.Context(), client.ImageImportSource{Source: bytes.NewReader(tarOf(t, map[string][]byte{"bin/sh": []byte("#!")})), SourceName: "-"},
		"labeled:1", client.ImageImportOptions{Changes: []string{"LABEL team=red", "CMD sh", "VOLUME /v"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Close()
	var said bytes.Buffer
	if _, err := said.ReadFrom(resp); err != nil {
		t.Fatal(err)
	}
	listener := s.engine.Events.Listen(time.Time{}, time.Time{})
	defer listener.Close()
	id := s.create(t, "user", container.Config{Image: "labeled:1"})
	if _, err := s.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{RemoveVolumes: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ImageTag(t.Context(), client.ImageTagOptions{Source: "labeled:1", Target: "labeled:2"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ImageRemove(t.Context(), "labeled:1", client.ImageRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ImageRemove(t.Context(), "labeled:2", client.ImageRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	wanted := map[string]bool{"volume create": false, "volume destroy": false, "image tag": false, "image untag": false, "image delete": false}
	for _, m := range listener.Queued() {
		kind := string(m.Type) + " " + string(m.Action)
		if m.Type == events.ImageEventType && m.Actor.Attributes["team"] != "red" {
			t.Errorf("%s has the attributes %v", kind, m.Actor.Attributes)
		}
		wanted[kind] = true
	}
	for kind, came := range wanted {
		if !came {
			t.Errorf("no event %s", kind)
		}
	}
}

// diskBytes is what the regular files below dir take, by a look at each.
func diskBytes(t *testing.T, dir string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		total += info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

// collect removes from the store what nothing holds, and waits for it.
func (s *server) collect(t *testing.T) {
	t.Helper()
	ctx, manager := s.engine.Context(t.Context()), s.store.Client().LeasesService()
	l, err := manager.Create(ctx, leases.WithRandomID())
	if err == nil {
		err = manager.Delete(ctx, l, leases.SynchronousDelete)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDiskUsageIsThatOfTheDisk(t *testing.T) {
	s := serve(t)
	s.load(t, "tiny:latest")
	s.create(t, "user", container.Config{Image: "tiny"})
	if _, err := s.ContainerCommit(t.Context(), "user", client.ContainerCommitOptions{Reference: "derived:1", Config: &container.Config{Env: []string{"B=1"}}}); err != nil {
		t.Fatal(err)
	}
	v, err := s.VolumeCreate(t.Context(), client.VolumeCreateOptions{Name: "data", DriverOpts: map[string]string{"type": "directory"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := v.Volume.Mountpoint
	if err := os.WriteFile(filepath.Join(dir, "a"), bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "a"), 1<<30); err != nil {
		t.Fatal(err)
	}
	s.collect(t)
	du, err := s.DiskUsage(t.Context(), client.DiskUsageOptions{Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(du.Volumes.Items) != 1 || du.Volumes.Items[0].UsageData == nil {
		t.Fatalf("volumes %+v", du.Volumes)
	}
	if size := du.Volumes.Items[0].UsageData.Size; size < 1<<20 || size > 1<<20+64<<10 || du.Volumes.TotalSize != size || du.Volumes.Reclaimable != size {
		t.Errorf("a file of 1 MiB with two names and a hole is %d bytes: %+v", size, du.Volumes)
	}
	var sum int64
	for _, i := range du.Images.Items {
		if i.SharedSize <= 0 || i.SharedSize >= i.Size {
			t.Errorf("%v: %d of %d bytes are shared", i.RepoTags, i.SharedSize, i.Size)
		}
		sum += i.Size - i.SharedSize
	}
	shared := du.Images.Items[0].SharedSize
	if want := sum + shared; len(du.Images.Items) != 2 || du.Images.TotalSize != want {
		t.Errorf("images take %d bytes, want %d: %+v", du.Images.TotalSize, want, du.Images)
	}
	blobs := diskBytes(t, filepath.Join(s.home, "c", "io.containerd.content.v1.content", "blobs"))
	layers := diskBytes(t, filepath.Join(s.home, "c", "io.containerd.snapshotter.v1.byre", "layers"))
	if du.Images.TotalSize != blobs+layers {
		t.Errorf("images take %d bytes, on the disk are %d of blobs and %d of layers", du.Images.TotalSize, blobs, layers)
	}
	for _, i := range du.Images.Items {
		if i.Containers == 0 && du.Images.Reclaimable != i.Size-i.SharedSize {
			t.Errorf("%d bytes can be reclaimed, want %d: what %v shares with an image in use stays", du.Images.Reclaimable, i.Size-i.SharedSize, i.RepoTags)
		}
	}
	only, err := s.DiskUsage(t.Context(), client.DiskUsageOptions{Volumes: true})
	if err != nil || only.Images.TotalSize != 0 || only.Volumes.TotalSize == 0 {
		t.Errorf("of volumes alone: %+v, error %v", only, err)
	}
	if status, _ := s.get(t, "/system/df?type=moons"); status != http.StatusBadRequest {
		t.Errorf("a type that nobody knows: %d", status)
	}
	if _, text := s.get(t, "/system/df"); strings.Contains(text, `"Items"`) {
		t.Errorf("items that were not asked for: %s", text)
	}
	if _, text := s.get(t, "/v1.45/system/df?type=volume"); !strings.Contains(text, `"Images":null`) || !strings.Contains(text, `"data"`) {
		t.Errorf("volumes in the old form: %s", text)
	}
	list, err := s.ImageList(t.Context(), client.ImageListOptions{SharedSize: true})
	if err != nil || len(list.Items) != 2 || list.Items[0].SharedSize != shared {
		t.Errorf("images with their shared size: %+v, error %v", list.Items, err)
	}
}

func TestNetworkIsFoundInItsScopeAlone(t *testing.T) {
	s := serve(t)
	if status, text := s.get(t, "/networks/bridge?scope=local&verbose=1"); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	if status, text := s.get(t, "/networks/bridge?scope=swarm"); status != http.StatusNotFound {
		t.Errorf("%d %s", status, text)
	}
}
