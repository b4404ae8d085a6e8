// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"path"
	"strings"
	"unicode/utf16"
)

// Limits of paths: Linux counts bytes, with a zero byte at the end of a path;
// Windows counts units of UTF-16.
const (
	maxLinuxPath   = 4095
	maxWindowsPath = 32766
	maxPathName    = 255
)

// splitBind takes "source:destination[:mode]" apart. The source is a path of
// the host, which is Windows or not, or the name of a volume; the colon behind
// a drive's letter belongs to it.
func splitBind(b string, windows bool) (source, dest, mode string, err error) {
	skip := 0
	if windows {
		skip = drivePrefix(b)
	} else if hasDrive(b) {
		return "", "", "", invalid("invalid volume specification: '%s': a drive's letter names a directory of a Windows host only", b)
	}
	parts := strings.Split(b[skip:], ":")
	switch {
	case len(parts) == 2:
		source, dest = parts[0], parts[1]
	case len(parts) == 3:
		source, dest, mode = parts[0], parts[1], parts[2]
	default:
		return "", "", "", invalid("invalid volume specification: '%s'", b)
	}
	if source = b[:skip] + source; source == "" || dest == "" {
		return "", "", "", invalid("invalid volume specification: '%s'", b)
	}
	return source, dest, mode, nil
}

// hostPath returns a bind's source as the host spells it: absolute and without
// "." and "..". On Windows C:\path, C:/path, /c/path and //c/path are the same
// directory. What is no path but may be a volume's name is "".
func hostPath(p string, windows bool) (string, error) {
	var clean string
	var err error
	if windows {
		clean, err = windowsPath(p)
	} else if path.IsAbs(p) {
		clean = path.Clean(p)
	}
	if err != nil || clean == "" {
		return "", err
	}
	return clean, checkPath("bind source path", clean, windows)
}

// hasDrive reports whether p begins with a drive's letter: "C:\" or "c:/".
func hasDrive(p string) bool {
	return len(p) > 2 && isLetter(p[0]) && p[1] == ':' && isSeparator(p[2])
}

func isLetter(c byte) bool    { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isSeparator(c byte) bool { return c == '\\' || c == '/' }

// drivePrefix returns the length of what precedes the path in the source of
// a bind and may hold a colon.
func drivePrefix(b string) int {
	n := 0
	if strings.HasPrefix(b, `\\?\`) {
		n = len(`\\?\`)
	}
	if hasDrive(b[n:]) {
		n += len("C:")
	}
	return n
}

// windowsPath is hostPath for Windows.
func windowsPath(p string) (string, error) {
	if rest, ok := strings.CutPrefix(p, `\\?\UNC\`); ok {
		p = `\\` + rest
	} else if rest, ok := strings.CutPrefix(p, `\\?\`); ok && hasDrive(rest) {
		p = rest
	}
	slashed := strings.ReplaceAll(p, `\`, "/")
	if strings.HasPrefix(slashed, "//?/") || strings.HasPrefix(slashed, "//./") {
		return "", invalid("invalid mount path: '%s' names a device, not a directory", p)
	}
	root, rest := "", ""
	switch {
	case hasDrive(slashed):
		root, rest = strings.ToUpper(p[:1])+":", slashed[2:]
	case isDriveDir(slashed):
		root, rest = strings.ToUpper(slashed[1:2])+":", slashed[2:]
	case strings.HasPrefix(slashed, "/") && isDriveDir(slashed[1:]):
		root, rest = strings.ToUpper(slashed[2:3])+":", slashed[3:]
	case strings.HasPrefix(slashed, "//"):
		if root, rest = cutShare(slashed); root == "" {
			return "", invalid("invalid mount path: '%s' lacks a server or a share", p)
		}
	case strings.HasPrefix(slashed, "/"), len(p) > 1 && isLetter(p[0]) && p[1] == ':':
		return "", invalid(`invalid mount path: '%s' mount path must be absolute, as C:\path or /c/path`, p)
	default:
		return "", nil
	}
	if i := strings.IndexAny(rest, `<>:"|?*`); i >= 0 {
		return "", invalid("invalid mount path: '%s' holds %q, which no name on Windows has", p, rest[i])
	}
	return strings.ReplaceAll(root+path.Clean("/"+rest), "/", `\`), nil
}

// isDriveDir reports whether a path with slashes is "/c" or below it.
func isDriveDir(p string) bool {
	return len(p) > 1 && p[0] == '/' && isLetter(p[1]) && (len(p) == 2 || p[2] == '/')
}

// cutShare parts //server/share from the path below it.
func cutShare(p string) (root, rest string) {
	server, below, _ := strings.Cut(p[2:], "/")
	share, rest, _ := strings.Cut(below, "/")
	if server == "" || share == "" || server == "." || server == ".." || share == "." || share == ".." {
		return "", ""
	}
	return "//" + server + "/" + share, rest
}

// checkPath refuses what no system call would take, by the name of what is
// too long instead of the system's.
func checkPath(what, p string, windows bool) error {
	length, limit, unit := func(s string) int { return len(s) }, maxLinuxPath, "bytes"
	if windows {
		length, limit, unit = func(s string) int { return len(utf16.Encode([]rune(s))) }, maxWindowsPath, "characters"
	}
	if strings.ContainsRune(p, 0) {
		return invalid("%s %q holds a zero byte", what, p)
	}
	if n := length(p); n > limit {
		return invalid("%s is %d %s long, more than %d: %s", what, n, unit, limit, abbreviate(p))
	}
	names := strings.FieldsFunc(p, func(r rune) bool { return r == '/' || windows && r == '\\' })
	for _, name := range names {
		if n := length(name); n > maxPathName {
			return invalid("%s has a name that is %d %s long, more than %d: %s", what, n, unit, maxPathName, abbreviate(name))
		}
	}
	return nil
}

// abbreviate shortens a path for a message.
func abbreviate(p string) string {
	const most = 64
	if len(p) <= most {
		return p
	}
	return strings.ToValidUTF8(p[:most], "") + "…"
}
