// SPDX-License-Identifier: Apache-2.0

// Package guest tests the guest image: each test boots it with package
// guesttest and drives it over the guest link alone, without a driver, shim or
// daemon.
package guest
