// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/api/types"
	"github.com/docker/go-units"

	"byre.dev/byre/internal/disk"
	"byre.dev/byre/internal/guestapi"
)

// RootPlan is how a root file system that containerd describes by mounts comes
// into the guest. Exactly one of Disks and Host is used.
type RootPlan struct {
	// Disks are images to be plugged in, each standing for one mount.
	Disks []RootDisk
	// Stack is the mount made of the disks: overlay or bind. Nil means that the
	// only disk is the root file system as it is.
	Stack *types.Mount
	// HostUpper, when not empty, is the directory of the host that Stack would
	// have taken writes in. No guest can stack on it: a scratch disk takes its
	// place, and it must be empty.
	HostUpper string
	// Host are mounts of the host's own kernel; they, or the directory that
	// they amount to, are shared, and a scratch disk in the guest takes what
	// the container writes.
	Host []*types.Mount
}

// RootDisk is one image of a root file system.
type RootDisk struct {
	Path     string
	FSType   string
	ReadOnly bool
	// Size, when not 0, has the image made first if it does not exist: of so
	// many bytes for files, or AnySize.
	Size int64
	// Options are for the guest's mount.
	Options []string
}

// AnySize is the size of an image that is a copy of the template of scratch
// disks.
const AnySize = -1

// Claims are the mount types and transforms that PlanRoot understands, as
// containerd wants to hear them from a shim: whatever is not claimed, containerd
// mounts on the host before the shim sees it.
func Claims() (mountTypes, transforms []string) {
	return []string{
			"ext4", "erofs", "loop", "overlay", "bind", "format/overlay", "format/bind",
			"format/mkdir/overlay", "format/mkdir/bind", "mkdir/overlay", "mkfs/ext4",
		},
		[]string{"format", "mkdir", "mkfs"}
}

// PlanRoot reads containerd's mounts. It is pure: nothing is looked up on the
// host.
func PlanRoot(mounts []*types.Mount) (RootPlan, error) {
	var plan RootPlan
	for i, m := range mounts {
		if m.Target != "" && m.Target != "/" {
			return plan, fmt.Errorf("root file system mount %d: target %q is not possible", i, m.Target)
		}
		base := path.Base(m.Type)
		switch {
		case base == "ext4" || base == "erofs" || base == "loop":
			d, err := rootDisk(m, base)
			if err != nil {
				return plan, fmt.Errorf("root file system mount %d: %w", i, err)
			}
			plan.Disks = append(plan.Disks, d)
		case isTemplate(m):
			if i != len(mounts)-1 {
				return plan, fmt.Errorf("root file system mount %d: a %s must be the last", i, m.Type)
			}
			plan.Stack, plan.HostUpper = splitUpper(m)
		default:
			plan.Host = append(plan.Host, m)
		}
	}
	switch {
	case len(plan.Host) > 0 && (len(plan.Disks) > 0 || plan.Stack != nil):
		return plan, fmt.Errorf("root file system: %s of the host over disk images is not possible", plan.Host[0].Type)
	case plan.Stack == nil && len(plan.Disks) > 1:
		return plan, fmt.Errorf("root file system: %d disk images and nothing that stacks them", len(plan.Disks))
	case plan.Stack != nil && len(plan.Disks) == 0:
		return plan, fmt.Errorf("root file system: %s refers to mounts that are not there", plan.Stack.Type)
	}
	return plan, nil
}

// isTemplate tells whether a mount refers to those before it.
func isTemplate(m *types.Mount) bool {
	return strings.Contains(m.Source, "{{") ||
		slices.ContainsFunc(m.Options, func(o string) bool { return strings.Contains(o, "{{") })
}

// splitUpper takes the writable layer out of an overlay when it is a directory
// of the host, as in a snapshotter that keeps layers as images and what is
// written as files.
func splitUpper(m *types.Mount) (stack *types.Mount, upper string) {
	var rest []string
	for _, o := range m.Options {
		key, value, _ := strings.Cut(o, "=")
		if strings.Contains(value, "{{") || key != "upperdir" && key != "workdir" {
			rest = append(rest, o)
		} else if key == "upperdir" {
			upper = value
		}
	}
	if upper == "" || path.Base(m.Type) != "overlay" {
		return m, ""
	}
	return &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: rest}, upper
}

const (
	optionMkfs  = "X-containerd.mkfs."
	optionMkdir = "X-containerd.mkdir.path="
)

func rootDisk(m *types.Mount, base string) (RootDisk, error) {
	d := RootDisk{Path: m.Source, FSType: base, ReadOnly: base == "erofs"}
	if base == "loop" {
		d.FSType = "ext4"
	}
	for _, o := range m.Options {
		key, value, _ := strings.Cut(o, "=")
		switch {
		case o == "loop" || o == "rw":
		case o == "ro":
			d.ReadOnly = true
		case key == optionMkfs+"size":
			n, err := units.RAMInBytes(value)
			if err != nil || n <= 0 {
				return d, fmt.Errorf("option %q: not a size", o)
			}
			d.Size = max(n, disk.MinScratch)
		case key == optionMkfs+"fs":
			if value != "ext4" {
				return d, fmt.Errorf("option %q: the guest makes ext4 alone", o)
			}
		case key == optionMkfs+"uuid":
		case key == "device":
			return d, fmt.Errorf("option %q: merged erofs layers are not possible; set max_unmerged_layers = 0 for the erofs snapshotter", o)
		case strings.HasPrefix(key, "X-containerd."):
			return d, fmt.Errorf("option %q is not possible", o)
		default:
			d.Options = append(d.Options, o)
		}
	}
	return d, nil
}

var templateRE = regexp.MustCompile(`\{\{\s*(mount|overlay)((?:\s+[0-9]+)+)\s*\}\}`)

// expand resolves the templates of containerd's mount manager: mount N, and
// overlay FIRST LAST, which joins the mount points of a range by colons.
func expand(s string, points []string) (string, error) {
	var bad error
	out := templateRE.ReplaceAllStringFunc(s, func(t string) string {
		m := templateRE.FindStringSubmatch(t)
		picked, err := pick(m[1], strings.Fields(m[2]), points)
		if err != nil {
			bad = fmt.Errorf("template %s: %w", t, err)
		}
		return picked
	})
	if bad == nil && strings.Contains(out, "{{") {
		bad = fmt.Errorf("template %q is not known", s)
	}
	return out, bad
}

func pick(fn string, args, points []string) (string, error) {
	nums := make([]int, len(args))
	for i, a := range args {
		n, err := strconv.Atoi(a)
		if err != nil || n >= len(points) {
			return "", fmt.Errorf("no mount %s, there are %d", a, len(points))
		}
		nums[i] = n
	}
	switch {
	case fn == "mount" && len(nums) == 1:
		return points[nums[0]], nil
	case fn == "overlay" && len(nums) == 2 && nums[0] <= nums[1]:
		return strings.Join(points[nums[0]:nums[1]+1], ":"), nil
	case fn == "overlay" && len(nums) == 2:
		r := slices.Clone(points[nums[1] : nums[0]+1])
		slices.Reverse(r)
		return strings.Join(r, ":"), nil
	}
	return "", fmt.Errorf("%s does not take %d arguments", fn, len(nums))
}

// StackMount makes the guest's mount that shows the root file system at target,
// from the mount points of the plan's disks.
func (p RootPlan) StackMount(target string, points []string) (*guestapi.Mount, error) {
	if p.Stack == nil {
		return &guestapi.Mount{
			Target:   target,
			ReadOnly: p.Disks[0].ReadOnly,
			Source:   &guestapi.Mount_Bind{Bind: &guestapi.Bind{Source: points[0]}},
		}, nil
	}
	options := make([]string, 0, len(p.Stack.Options))
	for _, o := range p.Stack.Options {
		x, err := expand(o, points)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(x, optionMkdir) {
			if err := checkMkdir(x); err != nil {
				return nil, err
			}
			continue
		}
		options = append(options, x)
	}
	switch base := path.Base(p.Stack.Type); base {
	case "overlay":
		return overlayMount(target, options)
	case "bind":
		source, err := expand(p.Stack.Source, points)
		if err != nil {
			return nil, err
		}
		return bindMount(target, source, options)
	default:
		return nil, fmt.Errorf("mounts cannot be stacked by %q", base)
	}
}

// checkMkdir holds the directories that a stack wants to what the guest makes
// by itself: mode 0755, owner root.
func checkMkdir(option string) error {
	f := strings.Split(strings.TrimPrefix(option, optionMkdir), ":")
	for i, want := range []string{"", "0755", "0", "0"} {
		if i > 0 && i < len(f) && strings.TrimLeft(f[i], "0") != strings.TrimLeft(want, "0") {
			return fmt.Errorf("option %q: directories are made with mode 0755 for root", option)
		}
	}
	return nil
}

func overlayMount(target string, options []string) (*guestapi.Mount, error) {
	o := &guestapi.Overlay{}
	m := &guestapi.Mount{Target: target, Source: &guestapi.Mount_Overlay{Overlay: o}}
	for _, opt := range options {
		key, value, _ := strings.Cut(opt, "=")
		switch key {
		case "lowerdir":
			o.Lower = strings.Split(value, ":")
		case "upperdir":
			o.Upper = value
		case "workdir":
			o.Work = value
		case "ro":
			m.ReadOnly = true
		case "rw":
		default:
			m.Options = append(m.Options, opt)
		}
	}
	if len(o.Lower) == 0 {
		return nil, fmt.Errorf("overlay without lowerdir")
	}
	m.ReadOnly = m.ReadOnly || o.Upper == ""
	return m, nil
}

func bindMount(target, source string, options []string) (*guestapi.Mount, error) {
	b := &guestapi.Bind{Source: source}
	m := &guestapi.Mount{Target: target, Source: &guestapi.Mount_Bind{Bind: b}}
	for _, o := range options {
		switch o {
		case "rw", "bind":
		case "rbind":
			b.Recursive = true
		case "ro":
			m.ReadOnly = true
		default:
			m.Options = append(m.Options, o)
		}
	}
	return m, nil
}
