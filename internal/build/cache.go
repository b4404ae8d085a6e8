// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/moby/api/types/build"

	"byre.dev/byre/internal/engine/filter"
)

// maxRecords bounds the records that a builder may send of its cache.
const maxRecords = 100_000

// Usage returns what the build cache holds. No builder is started for it: of one
// that does not run there is one record, its disk.
func (s *Service) Usage(ctx context.Context) ([]build.CacheRecord, error) {
	size := s.cfg.Builder.DiskUsage()
	if size == 0 {
		return nil, nil
	}
	if !s.cfg.Builder.Running() {
		return []build.CacheRecord{{
			ID: "builder", Type: "internal", Description: "the cache's disk; the builder does not run", Size: size,
		}}, nil
	}
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	builder, err := s.builder(ctx)
	if err != nil {
		return nil, err
	}
	defer builder.Close()
	resp, err := controlapi.NewControlClient(builder).DiskUsage(ctx, &controlapi.DiskUsageRequest{})
	if err != nil {
		return nil, fmt.Errorf("usage of the build cache: %w", fromBuilder(err))
	}
	records := make([]build.CacheRecord, 0, len(resp.Record))
	for _, r := range resp.Record {
		records = append(records, cacheRecord(r))
	}
	return records, nil
}

// nothingBuilt says that there is no cache, since there never was a builder.
func (s *Service) nothingBuilt() bool {
	return !s.cfg.Builder.Running() && s.cfg.Builder.DiskUsage() == 0
}

func cacheRecord(r *controlapi.UsageRecord) build.CacheRecord {
	out := build.CacheRecord{
		ID: r.ID, Parents: r.Parents, Type: r.RecordType, Description: r.Description, InUse: r.InUse, Shared: r.Shared,
		Size: r.Size, UsageCount: int(r.UsageCount),
	}
	if r.CreatedAt != nil {
		out.CreatedAt = r.CreatedAt.AsTime()
	}
	if r.LastUsedAt != nil {
		used := r.LastUsedAt.AsTime()
		out.LastUsedAt = &used
	}
	return out
}

// PruneRequest says what of the build cache goes.
type PruneRequest struct {
	// All takes internal and frontend records as well.
	All bool
	// ReservedSpace is kept in any case, MaxUsedSpace is the most that is
	// kept, MinFreeSpace is what is to be free on the disk: bytes, 0 is unset.
	ReservedSpace, MaxUsedSpace, MinFreeSpace int64
	// Filters select records: until, id, parent, type, description, inuse,
	// shared, private.
	Filters filter.Args
}

// Prune removes what is not used from the build cache, and returns what went.
// Where nothing was ever built no builder is started.
func (s *Service) Prune(ctx context.Context, req PruneRequest) (build.CachePruneReport, error) {
	var report build.CachePruneReport
	msg, err := req.message(time.Now())
	if err != nil || s.cfg.Builder.DiskUsage() == 0 {
		return report, err
	}
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return report, err
	}
	defer leave()
	builder, err := s.builder(ctx)
	if err != nil {
		return report, err
	}
	defer builder.Close()
	records, err := controlapi.NewControlClient(builder).Prune(ctx, msg)
	if err != nil {
		return report, fmt.Errorf("prune the build cache: %w", fromBuilder(err))
	}
	for {
		r, err := records.Recv()
		if errors.Is(err, io.EOF) {
			return report, nil
		}
		if err != nil {
			return report, fmt.Errorf("prune the build cache: %w", fromBuilder(err))
		}
		if len(report.CachesDeleted) >= maxRecords {
			return report, fmt.Errorf("prune the build cache: more than %d records", maxRecords)
		}
		report.CachesDeleted = append(report.CachesDeleted, r.ID)
		report.SpaceReclaimed += uint64(max(r.Size, 0))
	}
}

// cacheFilters are the filters that BuildKit knows.
func cacheFilters() []string {
	return []string{"id", "parent", "type", "description", "inuse", "shared", "private"}
}

// message puts the request in BuildKit's words.
func (r PruneRequest) message(now time.Time) (*controlapi.PruneRequest, error) {
	if err := r.Filters.Check(append(cacheFilters(), "until", "unused-for")...); err != nil {
		return nil, err
	}
	msg := &controlapi.PruneRequest{
		All: r.All, ReservedSpace: r.ReservedSpace, MaxUsedSpace: r.MaxUsedSpace, MinFreeSpace: r.MinFreeSpace,
	}
	until := slices.Concat(r.Filters["until"], r.Filters["unused-for"])
	if len(until) > 1 {
		return nil, errdefs.ErrInvalidArgument.WithMessage("the filters until and unused-for are one, and take one value")
	}
	for _, v := range until {
		at, err := filter.ParseTime(v, now)
		if err != nil {
			return nil, err
		}
		msg.KeepDuration = int64(now.Sub(at))
	}
	var terms []string
	for _, name := range cacheFilters() {
		values, ok := r.Filters[name]
		switch {
		case !ok:
		case len(values) > 1:
			return nil, errdefs.ErrInvalidArgument.WithMessage("the filter " + name + " takes one value")
		case len(values) == 0 || values[0] == "":
			terms = append(terms, name)
		case name == "id":
			terms = append(terms, "id~="+values[0])
		default:
			terms = append(terms, name+"=="+values[0])
		}
	}
	if len(terms) > 0 {
		msg.Filter = []string{strings.Join(terms, ",")}
	}
	return msg, nil
}
