import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Base64;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.storage.StringConverter;

/**
 * Reads messages as Kafka Connect does. Standard input: "KEY VALUE" in Base64 a line; argument: number of partitions.
 * Prints of each the Java producer's partition, the key, and NAME:CLASS:VALUE of each field by name, with tabs between.
 */
public class Downstream {
    public static void main(String[] args) throws Exception {
        StringConverter keys = new StringConverter();
        JsonConverter values = new JsonConverter();
        keys.configure(Map.of(), true);
        values.configure(Map.of("schemas.enable", "false"), false);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] parts = line.split(" ");
            byte[] key = Base64.getDecoder().decode(parts[0]);
            SchemaAndValue value = values.toConnectData("topic", Base64.getDecoder().decode(parts[1]));
            StringBuilder shown = new StringBuilder();
            shown.append(BuiltInPartitioner.partitionForKey(key, Integer.parseInt(args[0])));
            shown.append('\t').append(keys.toConnectData("topic", key).value());
            for (Map.Entry<?, ?> field : new TreeMap<>((Map<?, ?>) value.value()).entrySet()) {
                shown.append('\t').append(field.getKey()).append(':');
                shown.append(field.getValue().getClass().getSimpleName()).append(':').append(field.getValue());
            }
            System.out.println(shown);
        }
    }
}
