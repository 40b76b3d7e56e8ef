"""The names of spans and attributes.

They follow the GenAI conventions of OpenTelemetry. Those still move, so the names are in this module only.
"""

RUN, PASS, TURN, CALL = "invoke_workflow", "invoke_agent", "execute_tool", "chat"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
CONVERSATION = "gen_ai.conversation.id"
WORKFLOW = "gen_ai.workflow.name"
AGENT = "gen_ai.agent.name"
TOOL = "gen_ai.tool.name"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"

PASS_NUMBER = "loop_runner.pass"  # noqa: S105 - a pass, no password
TURN_NUMBER = "loop_runner.turn"
OUTCOME = "loop_runner.outcome"
SCORE = "loop_runner.score"
STATUS = "loop_runner.status"
COMMIT = "loop_runner.commit"
END = "loop_runner.cell.end"
CALL_KIND = "loop_runner.call.kind"
"""``root`` or ``sub``."""
