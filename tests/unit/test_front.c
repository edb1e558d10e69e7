/* test_front.c - requests in the words of other dialects, as the chat requests they become; what is refused, and with
 * which field; every allocation failing once. */
#include "node/front.h"
#include "test.h"

#define M "'max_tokens':5,'messages':[{'role':'user','content':'a'}]"
#define USER "{'messages':[{'role':'user','content':'a'}]"

/* The cases are written with ' for ". */
static nigh_str quoted(char *to, size_t cap, const char *from) {
    size_t n = nigh_format(to, cap, "%s", from);
    for (size_t i = 0; i < n; i++) if (to[i] == '\'') to[i] = '"';
    return (nigh_str){ to, n };
}

static void check_taken(nigh_front_kind kind, const char *body, const char *want) {
    nigh_buf chat = NIGH_BUF(1 << 20), echo = NIGH_BUF(1 << 20);
    nigh_refusal why;
    char asked[2048], wanted[2048];
    nigh_status status = nigh_front_translate(kind, quoted(asked, sizeof asked, body), &chat, &echo, &why);
    CHECK_MSG(status == NIGH_OK, "%s: %s", body, status == NIGH_OK ? "" : why.text);
    CHECK_MSG(nigh_str_eq(nigh_buf_str(&chat), quoted(wanted, sizeof wanted, want)), "%s\n  gave   %.*s\n  wanted %s",
        body, (int)chat.len, chat.ptr, wanted);
    nigh_buf_release(&chat);
    nigh_buf_release(&echo);
}

static void test_messages(void) {
    static const struct { const char *body, *want; } cases[] = {
        { "{" M "}", USER ",'max_tokens':5}" },
        { "{'system':[{'type':'text','text':'s','cache_control':{'type':'ephemeral'}},"
          "{'type':'text','text':'t'}]," M "}",
          "{'messages':[{'role':'system','content':'s\\nt'},{'role':'user','content':'a'}],"
          "'max_tokens':5}" },
        { "{" M ",'stop_sequences':['x'],'temperature':0.5,'top_k':3,'stream':true,'thinking':{},"
          "'metadata':{'user_id':'u'}}",
          USER ",'max_tokens':5,'stop':['x'],'stream':true,'temperature':0.5,'top_k':3,"
          "'metadata':{'user_id':'u'}}" },
        { "{" M ",'tools':[{'name':'f','input_schema':{}},{'type':'web_search_20250305','name':'w'},"
          "{'type':'custom','name':'g','description':'d','input_schema':{}}],"
          "'tool_choice':{'type':'any','disable_parallel_tool_use':true}}",
          USER ",'max_tokens':5,'tools':[{'type':'function','function':{'name':'f','parameters':{}}},"
          "{'type':'function','function':{'name':'g','description':'d','parameters':{}}}],"
          "'tool_choice':'required','parallel_tool_calls':false}" },
        { "{'max_tokens':5,'messages':[{'role':'assistant','content':[{'type':'thinking','thinking':'?'},"
          "{'type':'text','text':'b'},{'type':'tool_use','id':'1','name':'f','input':{'a':'\\\"'}}]},"
          "{'role':'user','content':[{'type':'text','text':'c'},{'type':'tool_result','tool_use_id':'1',"
          "'content':[{'type':'text','text':'d'},{'type':'text','text':'e'}]},"
          "{'type':'text','text':'g'},{'type':'text','text':'h'}]}]}",
          "{'messages':[{'role':'assistant','content':[{'type':'text','text':'b'}],'tool_calls':["
          "{'id':'1','type':'function','function':{'name':'f','arguments':'{\\\"a\\\":\\\"\\\\\\\"\\\"}'}}]},"
          "{'role':'user','content':[{'type':'text','text':'c'}]},"
          "{'role':'tool','content':'d\\ne','tool_call_id':'1'},"
          "{'role':'user','content':[{'type':'text','text':'g'},{'type':'text','text':'h'}]}],"
          "'max_tokens':5}" },
        { "{'max_tokens':5,'messages':[{'role':'user','content':[{'type':'image','source':{'type':'base64',"
          "'media_type':'image/png','data':'AA=='}}]}]}",
          "{'messages':[{'role':'user','content':[{'type':'image_url','image_url':{'url':"
          "'data:image/png;base64,AA=='}}]}],'max_tokens':5}" } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) check_taken(NIGH_FRONT_MESSAGES, cases[i].body, cases[i].want);
    check_taken(NIGH_FRONT_COUNT, "{'messages':[{'role':'user','content':'a'}]}", USER "}");
}

static void test_responses(void) {
    static const struct { const char *body, *want; } cases[] = {
        { "{'input':'a'}", USER "}" },
        { "{'input':'a','instructions':'s','max_output_tokens':7,'store':true,'include':['x']}",
          "{'messages':[{'role':'system','content':'s'},{'role':'user','content':'a'}],"
          "'max_completion_tokens':7}" },
        { "{'input':[{'role':'assistant','content':[{'type':'output_text','text':'b'}]},"
          "{'type':'function_call','call_id':'1','name':'f','arguments':'{}'},{'type':'reasoning'},"
          "{'type':'function_call','call_id':'2','name':'f','arguments':'{}'},"
          "{'type':'function_call_output','call_id':'1','output':[{'type':'input_text','text':'r'}]},"
          "{'type':'function_call','call_id':'3','name':'f','arguments':''}]}",
          "{'messages':[{'role':'assistant','content':[{'type':'text','text':'b'}],'tool_calls':["
          "{'id':'1','type':'function','function':{'name':'f','arguments':'{}'}},"
          "{'id':'2','type':'function','function':{'name':'f','arguments':'{}'}}]},"
          "{'role':'tool','content':'r','tool_call_id':'1'},"
          "{'role':'assistant','content':null,'tool_calls':["
          "{'id':'3','type':'function','function':{'name':'f','arguments':''}}]}]}" },
        { "{'input':'a','tools':[{'type':'web_search'},{'type':'function','name':'f','parameters':{}}],"
          "'tool_choice':{'type':'function','name':'f'},'reasoning':{'effort':'low'},"
          "'text':{'verbosity':'low','format':{'type':'json_schema','name':'n','schema':{}}}}",
          USER ",'tools':[{'type':'function','function':{'name':'f','parameters':{}}}],"
          "'tool_choice':{'type':'function','function':{'name':'f'}},'verbosity':'low',"
          "'response_format':{'type':'json_schema','json_schema':{'name':'n','schema':{}}},"
          "'reasoning_effort':'low'}" } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) check_taken(NIGH_FRONT_RESPONSES, cases[i].body, cases[i].want);
}

static void test_refused(void) {
    static const struct { nigh_front_kind kind; const char *body; int status; const char *code, *param; } cases[] = {
        { NIGH_FRONT_MESSAGES, "{", 400, "invalid_json", NULL },
        { NIGH_FRONT_MESSAGES, "[]", 400, "invalid_json", NULL },
        { NIGH_FRONT_MESSAGES, "{'messages':[{'role':'user','content':'a'}]}", 400, "missing", "max_tokens" },
        { NIGH_FRONT_MESSAGES, "{'max_tokens':1}", 400, "missing", "messages" },
        { NIGH_FRONT_MESSAGES, "{'max_tokens':1,'messages':[]}", 400, "invalid_type", "messages" },
        { NIGH_FRONT_MESSAGES, "{'max_tokens':0,'messages':[{'role':'user','content':'a'}]}", 400,
          "out_of_range", "max_tokens" },
        { NIGH_FRONT_MESSAGES, "{'max_tokens':1,'messages':[{'role':'tool','content':'a'}]}", 400,
          "invalid_value", "messages" },
        { NIGH_FRONT_MESSAGES, "{'max_tokens':1,'messages':[{'role':'user','content':[{'type':'document'}]}]}",
          501, "unsupported_value", "messages" },
        { NIGH_FRONT_MESSAGES, "{'max_tokens':1,'messages':[{'role':'user','content':[{'type':'tool_result'}]}]}",
          400, "invalid_type", "messages" },
        { NIGH_FRONT_MESSAGES, "{" M ",'system':4}", 400, "invalid_type", "system" },
        { NIGH_FRONT_MESSAGES, "{" M ",'stop_sequences':['']}", 400, "out_of_range", "stop_sequences" },
        { NIGH_FRONT_MESSAGES, "{" M ",'tool_choice':{'type':'some'}}", 400, "invalid_value", "tool_choice" },
        { NIGH_FRONT_MESSAGES, "{" M ",'tools':[{'name':'f'}]}", 400, "invalid_type", "tools" },
        { NIGH_FRONT_RESPONSES, "{}", 400, "missing", "input" },
        { NIGH_FRONT_RESPONSES, "{'input':[]}", 400, "invalid_type", "input" },
        { NIGH_FRONT_RESPONSES, "{'input':'a','previous_response_id':'r'}", 501, "unsupported_value",
          "previous_response_id" },
        { NIGH_FRONT_RESPONSES, "{'input':'a','conversation':'c'}", 501, "unsupported_value", "conversation" },
        { NIGH_FRONT_RESPONSES, "{'input':'a','background':true}", 501, "unsupported_value", "background" },
        { NIGH_FRONT_RESPONSES, "{'input':'a','top_logprobs':2}", 501, "unsupported_value", "top_logprobs" },
        { NIGH_FRONT_RESPONSES, "{'input':[{'type':'item_reference','id':'x'}]}", 501, "unsupported_value", "input" },
        { NIGH_FRONT_RESPONSES, "{'input':[{'type':'computer_call'}]}", 501, "unsupported_value", "input" },
        { NIGH_FRONT_RESPONSES, "{'input':[{'role':'tool','content':'a'}]}", 400, "invalid_value", "input" },
        { NIGH_FRONT_RESPONSES, "{'input':'a','max_output_tokens':1.5}", 400, "invalid_type", "max_output_tokens" },
        { NIGH_FRONT_RESPONSES, "{'input':'a','text':{'format':{'type':'xml'}}}", 400, "invalid_value",
          "text.format" } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_buf chat = NIGH_BUF(1 << 20), echo = NIGH_BUF(1 << 20);
        nigh_refusal why;
        char asked[512];
        nigh_str body = quoted(asked, sizeof asked, cases[i].body);
        nigh_status status = nigh_front_translate(cases[i].kind, body, &chat, &echo, &why);
        const char *param = cases[i].param ? cases[i].param : "", *got = why.param ? why.param : "";
        CHECK_MSG(status != NIGH_OK && why.status == cases[i].status && strcmp(why.code, cases[i].code) == 0
            && strcmp(got, param) == 0, "%s: %d %s %s", cases[i].body, why.status, why.code ? why.code : "", got);
        nigh_buf_release(&chat);
        nigh_buf_release(&echo);
    }
}

static void test_no_memory(void) {
    static const char *const bodies[] = { "{'system':'s'," M "}",
        "{'input':[{'type':'function_call_output','call_id':'1','output':'r'}],'instructions':'i'}" };
    for (size_t k = 0; k < NIGH_COUNT(bodies); k++) {
        size_t live = nigh_alloc_live_bytes(), failed = 0;
        for (uint64_t nth = 1; nth < 12; nth++) {
            nigh_buf chat = NIGH_BUF(1 << 20), echo = NIGH_BUF(1 << 20);
            nigh_refusal why;
            char asked[512];
            nigh_str body = quoted(asked, sizeof asked, bodies[k]);
            nigh_alloc_fail_at(nth, false);
            nigh_status status = nigh_front_translate(k ? NIGH_FRONT_RESPONSES : NIGH_FRONT_MESSAGES, body, &chat,
                &echo, &why);
            nigh_alloc_fail_at(0, false);
            if (status != NIGH_OK) { failed++; CHECK(why.status == 503 && strcmp(why.code, "no_memory") == 0); }
            nigh_buf_release(&chat);
            nigh_buf_release(&echo);
            CHECK(nigh_alloc_live_bytes() == live);
        }
        CHECK(failed >= 2);
    }
}

TEST_MAIN(T(test_messages), T(test_responses), T(test_refused), T(test_no_memory))
