import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.IntStream;

/** Named steps: each runs where it is written, and says how it went. */
class Steps {
    static final int APP = Integer.parseInt(System.getenv("CORDON_APP_ID"));
    static final String KEY = System.getenv("CORDON_APP_KEY");
    static final String ADMIN = System.getenv("CORDON_APP_ADMIN");
    static final String SOURCE = "AddSource_Type_test";
    /** More than a page of friends. */
    static final int CROWD = 230;
    /** The most accounts of one call. */
    static final int ACCOUNTS_MAX = 100;

    private static final ObjectMapper JSON = new ObjectMapper();

    private boolean failed;

    interface Step {
        void run() throws Exception;
    }

    void step(String name, Step step) {
        try {
            step.run();
            System.out.println("ok " + name);
        } catch (Exception | AssertionError error) {
            failed = true;
            System.out.println("FAIL " + name + ": " + String.valueOf(error).replaceAll("\\s+", " "));
        }
    }

    void end() {
        System.exit(failed ? 1 : 0);
    }

    static void same(Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) {
            throw new AssertionError("got " + got + ", not " + wanted);
        }
    }

    /** What the library made of an answer, without the fields it found nothing for. */
    static JsonNode ok(JsonNode answer) {
        same(envelope(answer), "OK 0 ");
        return answer;
    }

    static void failed(int code, JsonNode answer) {
        same(answer.path("ActionStatus").asText() + " " + answer.path("ErrorCode").asInt(), "FAIL " + code);
        same(answer.path("ErrorInfo").asText().isEmpty(), false);
    }

    static String envelope(JsonNode answer) {
        return answer.path("ActionStatus").asText() + " " + answer.path("ErrorCode").asText() + " "
                + answer.path("ErrorInfo").asText();
    }

    /** Compares some fields of each item of a list, written as `a b, c d`. */
    static void items(JsonNode list, String wanted, String... fields) {
        List<String> lines = new ArrayList<>();
        for (JsonNode item : list) {
            lines.add(String.join(" ", List.of(fields).stream().map(name -> text(item.path(name))).toList()).trim());
        }
        same(String.join(", ", lines), wanted);
    }

    private static String text(JsonNode value) {
        return value.isValueNode() ? value.asText() : value.isMissingNode() ? "" : value.toString();
    }

    /** One result for each account of the request: account, code, text. */
    static void results(JsonNode answer, String wanted) {
        items(ok(answer).path("ResultItem"), wanted, "To_Account", "ResultCode", "ResultInfo");
    }

    /** The same, and those that failed are listed once more. */
    static void results(JsonNode answer, String wanted, String... failed) {
        results(answer, wanted);
        same(strings(answer.path("Fail_Account")), List.of(failed));
    }

    static Map<String, JsonNode> values(JsonNode items) {
        Map<String, JsonNode> values = new HashMap<>();
        items.forEach(item -> values.put(item.path("Tag").asText(), item.path("Value")));
        return values;
    }

    static List<String> strings(JsonNode list) {
        List<String> strings = new ArrayList<>();
        list.forEach(item -> strings.add(item.asText()));
        return strings;
    }

    static List<String> crowd(String prefix) {
        return IntStream.rangeClosed(1, CROWD).mapToObj(number -> prefix + "%03d".formatted(number)).toList();
    }

    static List<List<String>> batches(List<String> crowd, String... people) {
        List<String> names = new ArrayList<>(crowd);
        names.addAll(List.of(people));
        List<List<String>> batches = new ArrayList<>();
        for (int start = 0; start < names.size(); start += ACCOUNTS_MAX) {
            batches.add(names.subList(start, Math.min(start + ACCOUNTS_MAX, names.size())));
        }
        return batches;
    }

    static JsonNode json(String text) throws java.io.IOException {
        return JSON.readTree(text);
    }
}
