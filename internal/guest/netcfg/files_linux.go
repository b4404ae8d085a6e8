// SPDX-License-Identifier: Apache-2.0

package netcfg

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"byre.dev/byre/internal/guestapi"
)

// etcFiles returns the contents of hosts, resolv.conf and hostname.
func etcFiles(r *guestapi.NetworkRequest) (map[string]string, error) {
	hosts, err := hostsFile(r)
	if err != nil {
		return nil, err
	}
	resolv, err := resolvFile(r)
	if err != nil {
		return nil, err
	}
	return map[string]string{"hosts": hosts, "resolv.conf": resolv, "hostname": r.Hostname + "\n"}, nil
}

// localHosts is what Docker writes at the top of a container's hosts file.
const localHosts = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff00::	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

func hostsFile(r *guestapi.NetworkRequest) (string, error) {
	var b strings.Builder
	b.WriteString(localHosts)
	for _, h := range r.Hosts {
		if _, err := netip.ParseAddr(h.Address); err != nil {
			return "", fmt.Errorf("hosts address %q: %w", h.Address, errdefs.ErrInvalidArgument)
		}
		if len(h.Names) == 0 {
			return "", fmt.Errorf("hosts entry %s without a name: %w", h.Address, errdefs.ErrInvalidArgument)
		}
		if err := plainWords(h.Names); err != nil {
			return "", err
		}
		b.WriteString(h.Address + "\t" + strings.Join(h.Names, " ") + "\n")
	}
	return b.String(), nil
}

func resolvFile(r *guestapi.NetworkRequest) (string, error) {
	if err := plainWords(r.Nameservers, r.Search, r.ResolvOptions, []string{r.Hostname + r.Domainname + "x"}); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, n := range r.Nameservers {
		b.WriteString("nameserver " + n + "\n")
	}
	if len(r.Search) != 0 {
		b.WriteString("search " + strings.Join(r.Search, " ") + "\n")
	}
	if len(r.ResolvOptions) != 0 {
		b.WriteString("options " + strings.Join(r.ResolvOptions, " ") + "\n")
	}
	return b.String(), nil
}

// plainWords refuses what would break out of its line or field.
func plainWords(lists ...[]string) error {
	for _, list := range lists {
		for _, w := range list {
			if w == "" || strings.ContainsAny(w, " \t\r\n#") {
				return fmt.Errorf("%q is not one word: %w", w, errdefs.ErrInvalidArgument)
			}
		}
	}
	return nil
}

// writeFiles writes files in place: a container may have them bound in, and a
// bind stays with the inode. What the container itself wrote into them stays:
// its lines in hosts, and a resolv.conf or hostname that it changed.
func writeFiles(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	for name, text := range files {
		if err := writeFile(dir, name, text); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// writeFile writes one of the files, and beside it what it wrote, by which it
// sees the next time what is not its own.
func writeFile(dir, name, text string) error {
	path, own := filepath.Join(dir, name), filepath.Join(dir, ".written-"+name)
	before, err := os.ReadFile(own)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	content := text
	if now, readErr := os.ReadFile(path); readErr == nil && err == nil && string(now) != string(before) {
		if name != "hosts" {
			return nil
		}
		content += foreignLines(string(now), string(before))
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		return err
	}
	return os.WriteFile(own, []byte(text), 0o600)
}

// foreignLines are the lines of now that were not in before.
func foreignLines(now, before string) string {
	ours := map[string]bool{}
	for line := range strings.Lines(before) {
		ours[strings.TrimSpace(line)] = true
	}
	var b strings.Builder
	for line := range strings.Lines(now) {
		if line = strings.TrimSpace(line); line != "" && !ours[line] {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
