// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"

	"byre.dev/byre/internal/disk"
)

// diskFile is the image of a volume that is a disk.
const diskFile = "disk.ext4"

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// checkOptions refuses options that are not honoured: what there is are disk
// images (type=ext4, with a size, or no options), directories of byre's own
// (type=directory) and those of the host (o=bind).
func checkOptions(options map[string]string) error {
	switch options["type"] {
	case "ext4":
		if _, err := diskSize(options); err != nil {
			return err
		}
		return only(options, "type", "size")
	case "directory":
		return only(options, "type")
	case "none", "":
		if len(options) == 0 {
			return nil
		}
		if options["o"] != "bind" && options["o"] != "rbind" {
			return invalid("byre does not support the volume option o=%s: a directory of the host is o=bind with device=DIRECTORY", options["o"])
		}
		if !filepath.IsAbs(options["device"]) {
			return invalid("volume option device: %q is no absolute path", options["device"])
		}
		return only(options, "type", "o", "device")
	}
	return invalid("byre does not support the volume option type=%s: there are ext4, directory, and none for a directory of the host", options["type"])
}

func only(options map[string]string, names ...string) error {
	for name := range options {
		if !strings.Contains(" "+strings.Join(names, " ")+" ", " "+name+" ") {
			return invalid("byre does not support the volume option %s: with type=%s there are %s", name, options["type"], strings.Join(names, ", "))
		}
	}
	return nil
}

// diskSize returns the size asked for, 0 for none.
func diskSize(options map[string]string) (int64, error) {
	s, ok := options["size"]
	if !ok {
		return 0, nil
	}
	n, err := units.RAMInBytes(s)
	if err != nil || n <= 0 {
		return 0, invalid("volume option size: %q is no size", s)
	}
	if n < disk.MinScratch || n > disk.MaxScratch {
		return 0, invalid("volume option size: %s: %v", s, disk.ErrSize)
	}
	return n, nil
}

// path returns where a volume's data is.
func (m *Manager) path(v *Volume) string {
	switch {
	case v.Disk():
		return filepath.Join(m.dir, v.Name, diskFile)
	case v.Options["device"] != "":
		return filepath.Clean(v.Options["device"])
	}
	return filepath.Join(m.dir, v.Name, dataDir)
}

// Mountpoint is what clients are told of where the files are. For a disk it is a
// directory that stays empty, as dockerd's is of a volume that the host has not
// mounted.
func (v Volume) Mountpoint() string {
	if v.Disk() {
		return MountpointOf(v.Path)
	}
	return v.Path
}

// MountpointOf is Mountpoint for a volume that is a disk with that image.
func MountpointOf(image string) string { return filepath.Join(filepath.Dir(image), dataDir) }

// makeData makes what a new volume consists of.
func (m *Manager) makeData(dir string, v *Volume) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	switch {
	case v.Options["device"] != "":
		info, err := os.Stat(v.Path)
		if err != nil || !info.IsDir() {
			return invalid("volume option device: %s is no directory", v.Path)
		}
		return nil
	case !v.Disk():
		return os.MkdirAll(v.Path, 0o755)
	}
	if err := os.MkdirAll(v.Mountpoint(), 0o755); err != nil {
		return err
	}
	size, err := diskSize(v.Options)
	if err != nil {
		return err
	}
	// What a kill left of an earlier try is no volume.
	if err := os.Remove(v.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The guest grows the file system when it mounts it.
	return disk.Scratch(v.Path, m.template, size)
}

// Size returns what a volume takes on the host's disk: holes are not counted,
// and a file with several names once.
func (v Volume) Size() int64 {
	if v.Disk() {
		n, err := disk.Allocated(v.Path)
		if err != nil {
			return 0
		}
		return n
	}
	return disk.AllocatedIn(v.Path)
}
