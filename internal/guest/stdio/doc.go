// SPDX-License-Identifier: Apache-2.0

// Package stdio matches the named streams that the host opens to PortStdio with
// the processes and archives that use them, and relays their bytes.
//
// A stream may arrive before or after the call that names it; each side waits
// for the other for a bounded time. A name is used once.
package stdio
