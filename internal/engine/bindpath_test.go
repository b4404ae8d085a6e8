// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestBindsAreTakenApart(t *testing.T) {
	for _, tc := range []struct {
		windows            bool
		bind               string
		source, dest, mode string
	}{
		{false, "/a:/b", "/a", "/b", ""},
		{false, "vol:/b:ro", "vol", "/b", "ro"},
		{false, "/a:/b:ro,z", "/a", "/b", "ro,z"},
		{false, "/with space/ünï:/b c:ro", "/with space/ünï", "/b c", "ro"},
		{false, `/back\slash:/b`, `/back\slash`, "/b", ""},
		{true, `C:\a:/b`, `C:\a`, "/b", ""},
		{true, `c:/a/b c:/b:ro`, `c:/a/b c`, "/b", "ro"},
		{true, `C:\:/b`, `C:\`, "/b", ""},
		{true, "/c/a:/b:ro", "/c/a", "/b", "ro"},
		{true, `\\server\share\a:/b`, `\\server\share\a`, "/b", ""},
		{true, `\\?\D:\a:/b:ro`, `\\?\D:\a`, "/b", "ro"},
		{true, "vol:/b", "vol", "/b", ""},
	} {
		source, dest, mode, err := splitBind(tc.bind, tc.windows)
		if source != tc.source || dest != tc.dest || mode != tc.mode || err != nil {
			t.Errorf("%s: %q %q %q, error %v", tc.bind, source, dest, mode, err)
		}
	}
}

func TestMalformedBindsAreRefused(t *testing.T) {
	for _, b := range []string{"", "/a", ":/b", "/a:", "/a:/b:ro:x", `C:\a:/b`, "c:/a:/b"} {
		if _, _, _, err := splitBind(b, false); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: error %v", b, err)
		}
	}
	for _, b := range []string{"", `C:\a`, `C:\a:`, `C:`, ":/b", `C:\a:/b:ro:x`, `C:\a:C:\b:ro`} {
		if _, _, _, err := splitBind(b, true); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q on Windows: error %v", b, err)
		}
	}
}

func TestSourcesOfBindsAreSpeltAsTheHostDoes(t *testing.T) {
	for _, tc := range []struct {
		windows   bool
		from, out string
	}{
		{false, "/", "/"},
		{false, "/a/./b/../c/", "/a/c"},
		{false, "/../..", "/"},
		{false, `/a\b`, `/a\b`},
		{false, "vol", ""},
		{false, "./rel", ""},
		{false, "/日本語/" + strings.Repeat("n", 200), "/日本語/" + strings.Repeat("n", 200)},
		{true, `C:\path`, `C:\path`},
		{true, `c:/path`, `C:\path`},
		{true, "/c/path", `C:\path`},
		{true, "//c/path", `C:\path`},
		{true, "/C", `C:\`},
		{true, "/d/", `D:\`},
		{true, `C:\`, `C:\`},
		{true, `C:\a\..\..\b\.\c d\`, `C:\b\c d`},
		{true, `C:/mixed\separators/ünï`, `C:\mixed\separators\ünï`},
		{true, `\\?\C:\a`, `C:\a`},
		{true, `\\?\UNC\server\share\a`, `\\server\share\a`},
		{true, `\\server\share`, `\\server\share\`},
		{true, `//server/share/a/../../../b`, `\\server\share\b`},
		{true, "vol", ""},
		{true, "v.o-l_1", ""},
	} {
		got, err := hostPath(tc.from, tc.windows)
		if got != tc.out || err != nil {
			t.Errorf("%s: %q, error %v; want %q", tc.from, got, err, tc.out)
		}
	}
}

func TestSourcesThatNoHostHasAreRefusedWithTheReason(t *testing.T) {
	deep := strings.Repeat("/"+strings.Repeat("d", 200), 21)
	for _, tc := range []struct {
		windows    bool
		path, want string
	}{
		{false, deep, "bind source path is 4221 bytes long, more than 4095: /dddd"},
		{false, "/" + strings.Repeat("ü", 128), "has a name that is 256 bytes long, more than 255"},
		{false, "/a\x00b", "zero byte"},
		{true, "/etc", `must be absolute, as C:\path or /c/path`},
		{true, "/cc/path", "must be absolute"},
		{true, `C:path`, "must be absolute"},
		{true, `C:`, "must be absolute"},
		{true, `\path`, "must be absolute"},
		{true, `\\.\pipe\docker_engine`, "names a device"},
		{true, `\\?\Volume{0}\a`, "names a device"},
		{true, `\\server`, "lacks a server or a share"},
		{true, `\\server\..\..\x`, "lacks a server or a share"},
		{true, `C:\a:stream`, "holds ':'"},
		{true, `C:\what?`, "holds '?'"},
		{true, `C:\` + strings.Repeat("n", 256), "256 characters long, more than 255"},
		{true, `C:` + strings.Repeat(`\`+strings.Repeat("d", 250), 131), "characters long, more than 32766"},
	} {
		got, err := hostPath(tc.path, tc.windows)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.40s: %.60q, error %v; want %s", tc.path, got, err, tc.want)
		}
	}
}

func TestPropagationOfABindIsRefusedByName(t *testing.T) {
	for _, mode := range []string{"shared", "rshared", "slave", "ro,rslave"} {
		_, err := (&mounting{Engine: new(Engine)}).parseBind("/nowhere:/x:" + mode)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "do not propagate") {
			t.Errorf("%s: error %v", mode, err)
		}
	}
}
