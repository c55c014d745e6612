import { onTestFinished } from 'vitest';

/** What this package warns of from now until the test has ended. */
export function warnings(): readonly string[] {
  const messages: string[] = [];
  const onWarning = ({ name, message }: Error): void => {
    if (name === 'PartywallWarning') messages.push(message);
  };
  process.on('warning', onWarning);
  onTestFinished(() => void process.off('warning', onWarning));
  return messages;
}
