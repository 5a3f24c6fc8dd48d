/** What a page says was done. Links name it by a word, so that none can put words into a page. */
const NOTICES = {
  canary: 'The canary has its share.',
  ended: 'The canary has ended.',
  promoted: 'The canary is the main version now.',
  'rolled-back': 'The model is back at the version that you chose.',
  revoked: 'The key is revoked. Every edge refuses it within 10 seconds.',
  'signed-out': 'You are signed out.',
} as const

export type Notice = keyof typeof NOTICES

export function noticeOf(name: string | undefined): string | null {
  return name !== undefined && isNotice(name) ? NOTICES[name] : null
}

function isNotice(name: string): name is Notice {
  return Object.hasOwn(NOTICES, name)
}
