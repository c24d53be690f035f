package agent

import (
	"fmt"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// What compiled rules take of memory for each byte of their files, and what
// they take while they are loaded, with those that they replace and what the
// collector has not freed yet. Both are measured, and on the high side.
const (
	rulesCost   = 13
	loadingCost = 60
)

// rulesShare is the part of the limit of memory, one in so many, that rules may
// take beyond what their text does; see rules.Options. It is reckoned on the
// high side, and taken twice while rules are loaded.
const rulesShare = 8

// objectsShare is the part, one in so many, that the objects of a cluster and the
// text of its rules may take, compiled twice.
const objectsShare = 4

const rulesMemoryHelp = "What rules, and the objects of a cluster, take of the memory limit, reckoned from their size."

// checkRulesSize says what becomes of the bound of memory if files of so many
// bytes are loaded: nothing reserves memory for them, so that an error comes
// before they are read rather than from the kernel.
func checkRulesSize(size, memoryLimit int64) rules.Problems {
	need := size * loadingCost
	text := fmt.Sprintf("files of %d KiB take about %d MiB while they are loaded, beside those in use", size>>10, need>>20)
	switch {
	case need > memoryLimit:
		return rules.Problems{{Message: fmt.Sprintf("%s: expected no more than --memory-limit, %d MiB", text, memoryLimit>>20)}}
	case need > memoryLimit/2: // the other half may be traffic
		return rules.Problems{{Warning: true, Message: fmt.Sprintf("%s, which is more than half of --memory-limit, %d MiB", text, memoryLimit>>20)}}
	}
	return nil
}
