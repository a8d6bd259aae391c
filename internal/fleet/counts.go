// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/binary"
	"maps"
	"time"
)

// What replicas tell each other besides verdicts. Counts are added up over the fleet, for example
// how many answers the clients of each locality got. What a Keeper saves is handed on as it is.

// Count is a number with a name.
type Count struct {
	Name  string // at most MaxCountName bytes of printable ASCII
	Value uint64
}

// Limits of counts. What is beyond them is left out.
const (
	MaxTopics    = 1024
	MaxCounts    = 32 // in a topic
	MaxCountName = 64
)

// topic holds the counts of one topic.
type topic struct {
	own     []Count
	changed bool // own is to be sent
	others  map[uint64]heard
}

// heard is what another replica counted.
type heard struct {
	counts []Count
	at     time.Duration
}

const (
	countsInterval = 10 * time.Second // between two messages about counts
	countsLast     = time.Minute      // how long a replica's counts are believed
)

// SetCounts replaces this replica's counts of a topic. A topic is a hash of what is counted, equal
// in all replicas. The counts are those of the last minutes, decayed by the caller, so that
// replicas with different uptimes weigh the same. They are sent every ten seconds.
func (f *Fleet) SetCounts(id uint64, counts []Count) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topic(id, MaxTopics)
	if t == nil {
		return
	}
	t.own = append(t.own[:0], counts[:min(len(counts), MaxCounts)]...)
	t.changed = true
}

// OtherCounts returns the sum of the other live replicas' counts of a topic, by name.
func (f *Fleet) OtherCounts(id uint64) map[string]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := make(map[string]uint64)
	t := f.topics[id]
	if t == nil {
		return sum
	}
	for _, m := range f.members {
		said, known := t.others[keyOf(m.Name)]
		if !known || f.now()-said.at > countsLast {
			continue
		}
		for _, c := range said.counts {
			sum[c.Name] += c.Value
		}
	}
	return sum
}

// topic returns a topic, nil if it is new and there are so many already. The caller holds the lock.
func (f *Fleet) topic(id uint64, most int) *topic {
	t := f.topics[id]
	if t == nil && len(f.topics) < most {
		t = &topic{others: make(map[uint64]heard)}
		f.topics[id] = t
	}
	return t
}

// sendCounts sends the counts that changed, every ten seconds.
func (f *Fleet) sendCounts() {
	f.mu.Lock()
	var messages [][]byte
	if f.now() >= f.countAt {
		f.countAt = f.now() + countsInterval
		messages = f.changedCounts()
	}
	f.mu.Unlock()
	for _, message := range messages {
		f.sendAll(message)
	}
}

// changedCounts returns messages with the counts that changed. The caller holds the lock.
func (f *Fleet) changedCounts() (messages [][]byte) {
	var message []byte
	send := func() {
		if len(message) > 0 {
			messages = append(messages, append(header{f.view().version, keyOf(f.config.Replica), 0}.bytes(), message...))
		}
		message = nil
	}
	for id, t := range f.topics {
		if !t.changed {
			f.forgetTopic(id, t)
			continue
		}
		t.changed = false
		section := appendSection(nil, kindCounts, func(to []byte) []byte { return appendCounts(to, id, t.own) })
		if len(message)+len(section) > MaxDatagram-headerSize-20 {
			send()
		}
		message = append(message, section...)
	}
	send()
	return messages
}

// forgetTopic forgets a topic that has no counts any more.
func (f *Fleet) forgetTopic(id uint64, t *topic) {
	for _, said := range t.others {
		if f.now()-said.at <= countsLast {
			return
		}
	}
	delete(f.topics, id)
}

func appendCounts(to []byte, id uint64, counts []Count) []byte {
	to = binary.BigEndian.AppendUint64(to, id)
	for _, c := range counts {
		to = binary.AppendUvarint(appendText(to, c.Name, MaxCountName), c.Value)
	}
	return to
}

// hearCounts takes counts of another replica. The caller holds the lock.
func (f *Fleet) hearCounts(sender uint64, r reader) {
	for {
		k, content, more := r.section()
		switch {
		case !more:
			return
		case k != kindCounts || !f.isOther(sender):
			f.traffic.skipped.Add(1)
			continue
		}
		id, counts := content.counts()
		// Half of the topics are left to those of this replica.
		if t := f.topic(id, MaxTopics/2); t != nil && !content.bad {
			f.dropStale(t)
			t.others[sender] = heard{counts, f.now()}
		}
	}
}

// dropStale forgets the counts of replicas that are gone or silent.
func (f *Fleet) dropStale(t *topic) {
	for sender, said := range t.others {
		if f.now()-said.at > countsLast {
			delete(t.others, sender)
		}
	}
}

// isOther reports whether a key is that of another live replica. The caller holds the lock.
func (f *Fleet) isOther(key uint64) bool {
	for _, m := range f.members {
		if m.Name != f.config.Replica && keyOf(m.Name) == key {
			return true
		}
	}
	return false
}

func (r *reader) counts() (id uint64, counts []Count) {
	id = r.uint64()
	for r.more() && len(counts) < MaxCounts {
		counts = append(counts, Count{r.text(MaxCountName), r.uvarint()})
	}
	return id, counts
}

// Keeper has something that the other replicas are to know besides verdicts, such as which tier
// serves. A replica that joins takes it over before it counts as joined, and replicas exchange it
// in pairs from time to time. Safe for concurrent use; its methods do not block.
type Keeper interface {
	// Save returns what the others are to know, at most MaxKept bytes. Ages, no timestamps.
	Save() []byte
	// Load takes what another replica saved, whose name is fit for a log line. It is untrusted. Load
	// does not keep the slice.
	Load(replica string, saved []byte)
}

// MaxKept bounds what a keeper saves, in bytes.
const MaxKept = 1 << 20

// Keep registers a keeper by a name that is the same in all replicas. Call it before Start.
func (f *Fleet) Keep(name string, k Keeper) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keepers[name] = k
}

// appendKept appends what the keepers save.
func (f *Fleet) appendKept(to []byte) []byte {
	f.mu.Lock()
	keepers := maps.Clone(f.keepers)
	f.mu.Unlock()
	for name, k := range keepers {
		if saved := k.Save(); len(saved) <= MaxKept {
			to = appendSection(to, kindKept, func(b []byte) []byte {
				return append(appendText(appendText(b, name, maxName), f.config.Replica, maxReplica), saved...)
			})
		}
	}
	return to
}

// loadKept hands what another replica's keeper saved to the keeper here.
func (f *Fleet) loadKept(r reader) {
	name, replica := r.text(maxName), r.text(maxReplica)
	f.mu.Lock()
	k := f.keepers[name]
	f.mu.Unlock()
	if r.bad || len(r.rest) > MaxKept || k == nil {
		f.traffic.skipped.Add(1)
		return
	}
	k.Load(replica, r.rest)
}
