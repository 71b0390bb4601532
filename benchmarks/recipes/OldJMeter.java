import com.thoughtworks.xstream.XStream;
import java.lang.reflect.Field;
import org.apache.jmeter.NewDriver;

/**
 * Starts a JMeter that is older than XStream 1.4.18, as Debian's 2.13 is, so that it reads plans.
 *
 * XStream makes objects only of classes it was told of since 1.4.18; that JMeter tells it of none,
 * and refuses every plan ("ForbiddenClassException: org.apache.jmeter.save.ScriptWrapper"). Here
 * its own classes are allowed before it starts, and no others.
 *
 *   java -Djmeter.home=/usr/share/jmeter -cp /usr/share/jmeter/bin/ApacheJMeter.jar \
 *     OldJMeter.java -n -t chat.jmx ...
 */
public final class OldJMeter {
    private static final String[] ITS_OWN = {"org.apache.jmeter.**", "org.apache.jorphan.**"};

    private OldJMeter() {}

    public static void main(String[] arguments) throws Exception {
        Field jars = NewDriver.class.getDeclaredField("loader");
        jars.setAccessible(true);
        ClassLoader loader = (ClassLoader) jars.get(null);
        Thread.currentThread().setContextClassLoader(loader);
        // What reads plans asks for its settings as soon as it is loaded.
        Class<?> settings = loader.loadClass("org.apache.jmeter.util.JMeterUtils");
        String home = NewDriver.getJMeterDir();
        settings.getMethod("setJMeterHome", String.class).invoke(null, home);
        settings.getMethod("loadJMeterProperties", String.class)
            .invoke(null, home + "/bin/jmeter.properties");
        Class<?> plans = loader.loadClass("org.apache.jmeter.save.SaveService");
        for (String name : new String[] {"JMXSAVER", "JTLSAVER"}) {
            Field saver = plans.getDeclaredField(name);
            saver.setAccessible(true);
            ((XStream) saver.get(null)).allowTypesByWildcard(ITS_OWN);
        }
        NewDriver.main(arguments);
    }
}
