// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Watcher watches the tree below a directory. Its methods may be called
// concurrently, Next by one goroutine.
type Watcher struct {
	dir   windows.Handle
	event windows.Handle
	stop  windows.Handle
	pair  pairer
	buf   []byte

	mu sync.Mutex
	// closed is guarded by mu.
	closed bool
	// reading counts calls of Next; it is waited for once closed is set.
	reading sync.WaitGroup
}

// bufferSize is what the system keeps for events that are not fetched; more
// than 64 KiB is refused on network drives.
const bufferSize = 64 << 10

func open(path string) (*Watcher, error) {
	if err := supported(path); err != nil {
		return nil, err
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	dir, err := windows.CreateFile(name, windows.FILE_LIST_DIRECTORY,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil, windows.OPEN_EXISTING,
		windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OVERLAPPED, 0)
	if err != nil {
		return nil, err
	}
	w := &Watcher{dir: dir, buf: make([]byte, bufferSize)}
	if w.event, err = windows.CreateEvent(nil, 1, 0, nil); err == nil {
		w.stop, err = windows.CreateEvent(nil, 1, 0, nil)
	}
	if err != nil {
		return nil, errors.Join(err, w.release())
	}
	return w, nil
}

// limit is none: a share takes one handle.
func limit() int { return 0 }

// Add has nothing to do: the whole tree is watched.
func (w *Watcher) Add(ID, string, Identity) error { return nil }

// Remove has nothing to do.
func (w *Watcher) Remove(ID) {}

// notifyFilter is everything that changes what a guest sees.
const notifyFilter = windows.FILE_NOTIFY_CHANGE_FILE_NAME | windows.FILE_NOTIFY_CHANGE_DIR_NAME |
	windows.FILE_NOTIFY_CHANGE_ATTRIBUTES | windows.FILE_NOTIFY_CHANGE_SIZE |
	windows.FILE_NOTIFY_CHANGE_LAST_WRITE | windows.FILE_NOTIFY_CHANGE_CREATION | windows.FILE_NOTIFY_CHANGE_SECURITY

// Next waits for events and returns them in order. After Close it returns
// ErrClosed.
func (w *Watcher) Next() ([]Event, error) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil, ErrClosed
	}
	w.reading.Add(1) // under mu: Close begins to wait only after it
	w.mu.Unlock()
	defer w.reading.Done()
	for {
		n, err := w.read()
		if err != nil {
			return nil, err
		}
		if n == 0 { // the system's buffer overflowed
			w.pair.add(half{Event: Event{Op: Lost}})
			return w.pair.take(), nil
		}
		records, err := decodeExtended(w.buf[:n])
		if err != nil {
			return nil, fmt.Errorf("read changes: %w", err)
		}
		for _, r := range records {
			if h, some := r.translate(); some {
				w.pair.add(h)
			}
		}
		if events := w.pair.take(); len(events) > 0 {
			return events, nil
		}
	}
}

var readDirectoryChangesExW = windows.NewLazySystemDLL("kernel32.dll").NewProc("ReadDirectoryChangesExW")

// extendedInformation is ReadDirectoryNotifyExtendedInformation.
const extendedInformation = 2

// read fetches records into w.buf; 0 bytes mean that some were lost.
func (w *Watcher) read() (uint32, error) {
	ov := windows.Overlapped{HEvent: w.event}
	// SAFETY: buf and ov stay where they are until the request has ended,
	// which is waited for below whatever happens.
	r, _, err := readDirectoryChangesExW.Call(uintptr(w.dir), uintptr(unsafe.Pointer(&w.buf[0])), uintptr(len(w.buf)),
		1, notifyFilter, 0, uintptr(unsafe.Pointer(&ov)), 0, extendedInformation)
	if r == 0 && !errors.Is(err, windows.ERROR_IO_PENDING) {
		return lost(err)
	}
	which, err := windows.WaitForMultipleObjects([]windows.Handle{w.event, w.stop}, false, windows.INFINITE)
	stopped := err != nil || which != windows.WAIT_OBJECT_0
	if stopped {
		_ = windows.CancelIoEx(w.dir, &ov) // it may have ended by itself
	}
	var n uint32
	err = windows.GetOverlappedResult(w.dir, &ov, &n, true)
	if stopped {
		return 0, ErrClosed
	}
	if err != nil {
		return lost(err)
	}
	return n, nil
}

// lost tells an overflow from an error.
func lost(err error) (uint32, error) {
	if errors.Is(err, windows.ERROR_NOTIFY_ENUM_DIR) {
		return 0, nil
	}
	return 0, fmt.Errorf("read changes: %w", err)
}

// Close ends the watching and returns when Next has.
func (w *Watcher) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	w.mu.Unlock()
	err := windows.SetEvent(w.stop)
	w.reading.Wait()
	return errors.Join(err, w.release())
}

func (w *Watcher) release() error {
	var errs []error
	for _, h := range []windows.Handle{w.dir, w.event, w.stop} {
		if h != 0 {
			errs = append(errs, windows.CloseHandle(h))
		}
	}
	return errors.Join(errs...)
}

func supported(path string) error {
	vol := filepath.VolumeName(path)
	name, err := windows.UTF16PtrFromString(vol + `\`)
	if err != nil {
		return err
	}
	if windows.GetDriveType(name) == windows.DRIVE_REMOTE {
		return fmt.Errorf("others may change files of a network drive without the host being told: %w", errors.ErrUnsupported)
	}
	return nil
}
