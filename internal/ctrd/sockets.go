// SPDX-License-Identifier: Apache-2.0

package ctrd

import (
	"crypto/sha256"
	"encoding/hex"
)

// sockets says where containerd listens, and where its shims do. The paths
// depend on Root alone, so that a shim reaches the daemon that comes after the
// one that started it.
type sockets struct {
	grpc, ttrpc string
	// shims is a directory; empty where shims use no sockets in directories.
	shims string
}

// rootID tells the sockets of one Root from those of another.
func rootID(root string) string {
	sum := sha256.Sum256([]byte(root))
	return hex.EncodeToString(sum[:5])
}
