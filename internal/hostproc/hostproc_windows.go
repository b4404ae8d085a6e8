// SPDX-License-Identifier: Apache-2.0

package hostproc

import (
	"errors"
	"fmt"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/windows"
)

// startTied puts the child into a job object that ends with its last handle,
// which is ours.
func startTied(cmd *exec.Cmd) (func(), error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, fmt.Errorf("create job object: %w", err)
	}
	release := func() { _ = windows.CloseHandle(job) }
	var info windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	// SAFETY: the call reads a structure of the length that it is given.
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))); err != nil {
		release()
		return nil, fmt.Errorf("set limits of job object: %w", err)
	}
	if err := cmd.Start(); err != nil {
		release()
		return nil, err
	}
	if err := assign(job, uint32(cmd.Process.Pid)); err != nil {
		err = errors.Join(err, cmd.Process.Kill())
		_ = cmd.Wait()
		release()
		return nil, err
	}
	return release, nil
}

func assign(job windows.Handle, pid uint32) error {
	h, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, pid)
	if err != nil {
		return fmt.Errorf("open child process: %w", err)
	}
	defer windows.CloseHandle(h)
	if err := windows.AssignProcessToJobObject(job, h); err != nil {
		return fmt.Errorf("assign child to job object: %w", err)
	}
	return nil
}
