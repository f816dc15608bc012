// Package allocs counts what the whole program allocates for a message and for a connect. Times move with
// the machine; these counts do not. Its tests and benchmarks are left out where the race detector watches,
// which allocates for itself: make allocs runs them without it, and is part of make test.
package allocs
