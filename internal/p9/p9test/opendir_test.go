// SPDX-License-Identifier: Apache-2.0

//go:build linux

package p9test_test

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// As in lock_test.go, these tests ask for what a local file system does. A
// directory's entries may come with its opening: nobody must notice.

// read returns the names that an open directory has from where it stands on.
func read(t *testing.T, dir *os.File) []string {
	t.Helper()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func rewound(t *testing.T, dir *os.File) []string {
	t.Helper()
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return read(t, dir)
}

func openDir(t *testing.T, path string) *os.File {
	t.Helper()
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

func wantNames(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", what, got, want)
	}
}

func TestADirectoryThatIsOpenShowsWhatIsMadeInIt(t *testing.T) {
	here, _ := lockDirs(t)
	dir := openDir(t, here)
	writeFile(t, here+"/a", "")
	wantNames(t, "a directory opened before", read(t, dir), "a")
	writeFile(t, here+"/b", "")
	wantNames(t, "rewound, it", rewound(t, dir), "a", "b")
	if err := os.Remove(here + "/a"); err != nil {
		t.Fatal(err)
	}
	wantNames(t, "rewound again, it", rewound(t, dir), "b")
}

func TestADirectoryRewoundUnreadShowsWhatOthersMade(t *testing.T) {
	here, there := lockDirs(t)
	dir := openDir(t, here)
	writeFile(t, there+"/a", "")
	wantNames(t, "rewound, it", rewound(t, dir), "a")
}

func TestADirectoryReadLongAfterItWasOpenedShowsWhatOthersMade(t *testing.T) {
	here, there := lockDirs(t)
	dir := openDir(t, here)
	writeFile(t, there+"/a", "")
	time.Sleep(300 * time.Millisecond)
	wantNames(t, "it", read(t, dir), "a")
}

// The names of some directories fit what comes with the opening, others do not.
func TestDirectoriesOfAnySizeAreReadWhole(t *testing.T) {
	here, _ := lockDirs(t)
	made := 0
	var want []string
	for _, n := range []int{0, 1, 28, 29, 30, 31, 32, 150} {
		for ; made < n; made++ {
			name := fmt.Sprintf("%03d%s", made, strings.Repeat("n", 240))
			writeFile(t, here+"/"+name, "")
			want = append(want, name)
		}
		dir := openDir(t, here)
		wantNames(t, fmt.Sprintf("a directory of %d", n), read(t, dir), want...)
		wantNames(t, fmt.Sprintf("a directory of %d, rewound,", n), rewound(t, dir), want...)
		wantNames(t, "what follows", read(t, dir))
		dir.Close()
	}
}
