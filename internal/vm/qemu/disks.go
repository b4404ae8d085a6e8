// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/vm"
)

const (
	// maxDisks bounds the disks of a machine; QEMU's SCSI bus takes far more.
	maxDisks = 255
	// firstLUN is not 0: for the news of a disk at LUN 0 the guest's driver scans
	// the whole target (virtscsi_handle_transport_reset in virtio_scsi.c), which
	// scsi_mod.scan=manual has it not do, so that the disk would be found late.
	firstLUN = 1
	// unplugLimit bounds how long the guest may take to let go of a device.
	unplugLimit = 10 * time.Second
)

// disks are a machine's SCSI LUNs.
type disks struct {
	monitor *monitor

	mu sync.Mutex
	// used is guarded by mu: LUNs in use or on their way out.
	used [firstLUN + maxDisks]bool
}

func (d *disks) reserve() (uint32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for lun := firstLUN; lun < len(d.used); lun++ {
		if !d.used[lun] {
			d.used[lun] = true
			return uint32(lun), nil
		}
	}
	return 0, fmt.Errorf("the machine has its %d disks: %w", maxDisks, errdefs.ErrResourceExhausted)
}

func (d *disks) free(lun uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used[lun] = false
}

func diskNode(lun uint32) string   { return fmt.Sprintf("disk%d", lun) }
func diskDevice(lun uint32) string { return fmt.Sprintf("lun%d", lun) }

// AttachDisk implements vm.Machine.
func (m *machine) AttachDisk(ctx context.Context, disk vm.Disk) (uint32, error) {
	lun, err := m.disks.reserve()
	if err == nil {
		err = m.disks.plug(ctx, lun, disk)
	}
	if err != nil {
		return 0, fmt.Errorf("attach disk %s: %w", disk.Path, err)
	}
	return lun, nil
}

func (d *disks) plug(ctx context.Context, lun uint32, disk vm.Disk) error {
	if err := d.monitor.run(ctx, "blockdev-add", blockdev(lun, disk), nil); err != nil {
		d.free(lun)
		return err
	}
	err := d.monitor.run(ctx, "device_add", scsiDisk(lun), nil)
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unplugLimit)
	defer cancel()
	if derr := d.monitor.run(ctx, "blockdev-del", nodeName{diskNode(lun)}, nil); derr != nil {
		return errors.Join(err, derr) // the LUN stays reserved
	}
	d.free(lun)
	return err
}

// blockdev is the argument of blockdev-add (qapi/block-core.json of QEMU). QEMU
// locks the image: readers share it, a writer has it alone.
func blockdev(lun uint32, disk vm.Disk) map[string]any {
	return map[string]any{
		"node-name": diskNode(lun),
		"driver":    "raw",
		"read-only": disk.ReadOnly,
		"discard":   "unmap",
		"file": map[string]any{
			"driver":    "file",
			"filename":  disk.Path,
			"read-only": disk.ReadOnly,
			"discard":   "unmap",
			"locking":   "on",
		},
	}
}

func scsiDisk(lun uint32) map[string]any {
	return map[string]any{
		"driver": "scsi-hd", "id": diskDevice(lun), "bus": scsiID + ".0",
		"channel": 0, "scsi-id": 0, "lun": lun, "drive": diskNode(lun),
	}
}

type nodeName struct {
	NodeName string `json:"node-name"`
}

type deviceID struct {
	ID string `json:"id"`
}

// DetachDisk implements vm.Machine.
func (m *machine) DetachDisk(ctx context.Context, lun uint32) error {
	if err := m.disks.unplug(ctx, lun); err != nil {
		return fmt.Errorf("detach disk at LUN %d: %w", lun, err)
	}
	return nil
}

func (d *disks) unplug(ctx context.Context, lun uint32) error {
	if lun >= uint32(len(d.used)) {
		return fmt.Errorf("no such LUN: %w", errdefs.ErrNotFound)
	}
	d.mu.Lock()
	used := d.used[lun]
	d.mu.Unlock()
	if !used {
		return fmt.Errorf("no such LUN: %w", errdefs.ErrNotFound)
	}
	if err := unplugDevice(ctx, d.monitor, diskDevice(lun)); err != nil {
		return err
	}
	if err := d.monitor.run(ctx, "blockdev-del", nodeName{diskNode(lun)}, nil); err != nil {
		return err
	}
	d.free(lun)
	return nil
}

// unplugDevice removes a device and waits until QEMU says that it is gone.
func unplugDevice(ctx context.Context, m *monitor, id string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, unplugLimit, errors.New("the guest does not let go of the device"))
	defer cancel()
	gone, forget := m.expect(func(e event) bool {
		var data struct {
			Device string `json:"device"`
		}
		return e.Name == "DEVICE_DELETED" && json.Unmarshal(e.Data, &data) == nil && data.Device == id
	})
	defer forget()
	if err := m.run(ctx, "device_del", deviceID{id}, nil); err != nil {
		return err
	}
	select {
	case <-gone:
		return nil
	case <-m.done:
		return errMonitorClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
