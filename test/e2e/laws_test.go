package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// laws are the promises of the program and the tests that show each of them.
var laws = []struct {
	law   string
	tests string
}{
	{"Production is sacred: nothing blocks it, memory is bounded, nothing foreign is touched.",
		"TestBadShadows TestFullQueueDropsAndCounts TestKillNineLeavesNothingWithTCX TestKillNineWithClsact TestKillNineInAPod TestNoPrivileges " +
			"TestGracefulStopLeavesNothing TestStopDoesNotWaitForAStuckShadow TestBodyOverTheLimitIsDroppedAndCounted " +
			"TestOtherProtocolsAreRecognised TestUpgradedConnectionsAreIgnored TestMemoryIsBounded TestTwoAgentsCoexist " +
			"TestDryRunSendsNothing TestDemoInterrupted TestPrivileges TestUserWhoCannotReadTheRules TestUserAndKubeconfig"},
	{"Every request is accounted for: seen = mirrored + filtered + sampled out + looped + dropped + pending, at every instant.",
		// Every test that runs an agent reads its account all the time; these
		// compare it with what is known to have happened.
		"TestTenThousandKeepAliveRequests TestGracefulStopUnderLoad TestStopSendsWhatIsQueued TestConnectionsThatEndBadly TestInvalidRequestsAreDropped " +
			"TestPercent TestLoopGuard TestFullQueueDropsAndCounts TestBadShadows TestShadowComesBack TestShadowMovesUnderLoad TestManyReloadsUnderLoad TestDemo TestPodChurn TestCompareSame TestCompareDifferent TestComparePods TestPCAPCompare TestLingersUntilTheSuccessorIsGone TestLingersNoLonger"},
	{"The shadow gets the same bytes production got, once.",
		"TestBodies TestLargeBodiesInWirePackets TestOutputOfALiveRun TestTenThousandKeepAliveRequests TestOrderPerConnection TestOpenConnectionsArePickedUp TestEveryPathOnce " +
			"TestInterfacesComeAndGo TestOneLineForm TestPCAPReplay TestPublicCaptures TestPodsOnce TestPodsProxied TestPodChurn TestTakeoverInPods TestSeedRules TestDeclinedH2CIsNoUpgrade " +
			"TestLossyNetwork TestShortConnections TestWhatCannotBeCopiedIsNotGuessed TestUrgentData"},
	{"Rules mean what Envoy and Istio mean.",
		"TestSeedRules TestRulesChangeUnderLoad TestBrokenRulesKeepTheOldOnes TestPCAPDryRun TestErrorsEndWithTwo"},
	{"Speed: production does not wait for the mirror, and the mirror keeps up with production.",
		// How fast is measured in test/bench.
		"TestTenThousandKeepAliveRequests TestRulesChangeUnderLoad"},
}

// TestLaws keeps the list true: every test named exists, and every test is
// named.
func TestLaws(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	must(t, err)
	named := map[string]bool{"TestMain": true, "TestLaws": true}
	for _, l := range laws {
		for name := range strings.FieldsSeq(l.tests) {
			named[name] = false
		}
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.SkipObjectResolution)
		must(t, err)
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(f.Name.Name, "Test") {
				continue
			}
			if _, ok := named[f.Name.Name]; !ok {
				t.Errorf("%s shows no law", f.Name.Name)
			}
			named[f.Name.Name] = true
		}
	}
	for name, exists := range named {
		if !exists {
			t.Errorf("%s does not exist", name)
		}
	}
}
